"""Limits for clients that are idle, send slowly, or do not read."""

import asyncio

from penstock.serving.idle_sweep import PROGRESS_BYTES, sweep_connection
from tests.support.chat_endpoints import CHAT_ENDPOINTS
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, get, open_client, post, run_event_loop
from tests.support.raw_engine import (
    DONE,
    END,
    RawEngine,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    response,
    send_pieces,
)

ANSWER = completion("hello")
GOOD = send_pieces(response(ANSWER))
CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))


class SweepClock:
    """Runs the sweeps of many seconds at once."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._http = gateway.http
        self._now = asyncio.get_running_loop().time()
        self._http._sweep_timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Run one sweep for each second."""
        for _ in range(int(seconds)):
            self._now += 1
            for connection in tuple(self._http.server_state.connections):
                sweep_connection(
                    connection, self._now, self._http._options.keep_alive, self._http._options.request_timeout
                )
            await run_event_loop()


async def test_an_idle_connection_is_closed_after_a_while():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        clock = SweepClock(gateway)
        for first in (b"", CHAT, get("/livez"), STREAM[:0] + get("/nothing")):
            async with open_client(gateway.port) as client:
                if first:
                    await client.send(first)
                    await client.read_answer()
                await wait_until(lambda: gateway.connections)
                await clock.advance(74)
                assert await client.is_silent(0.01)
                await clock.advance(4)
                assert await client.is_closed_by_peer()


async def test_a_connection_in_use_is_not_idle():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        clock = SweepClock(gateway)
        async with open_client(gateway.port) as client:
            for _ in range(4):
                await client.send(CHAT)
                assert (await client.read_answer()).body == ANSWER
                await clock.advance(60)
            for _ in range(4):
                await client.send(get("/livez"))
                assert (await client.read_answer()).status == 200
                await clock.advance(60)


async def test_a_long_response_does_not_count_as_idle_time():
    go_on = asyncio.Event()

    async def slow(turn: Turn) -> None:
        await turn.send(chunked_head() + chunk(event("one")))
        await go_on.wait()
        await turn.send(chunk(DONE) + END)

    async with RawEngine(slow) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        clock = SweepClock(gateway)
        async with open_client(gateway.port) as client:
            await client.send(STREAM)
            await engine.asked.wait()
            await clock.advance(600)
            go_on.set()
            assert (await client.read_answer()).text == "one"
            await clock.advance(60)
            engine.script = GOOD
            await client.send(CHAT)
            assert (await client.read_answer()).body == ANSWER


async def test_a_body_that_does_not_arrive_is_answered_with_408():
    for name in ("openai", "anthropic", "ollama", "service"):
        surface = CHAT_ENDPOINTS[name]
        async with run_gateway() as gateway, open_client(gateway.port) as client:
            clock = SweepClock(gateway)
            await client.send(surface.request[:-5])
            await wait_until(lambda: gateway.connections and gateway.connections[0].cycle is not None)
            await clock.advance(110)
            assert await client.is_silent(0.01)
            await clock.advance(15)
            answer = await client.read_answer()
            surface.check_error(answer, 408, "client_stalled")
            assert answer.headers["connection"] == "close"
            assert await client.is_closed_by_peer()


async def test_a_head_that_does_not_arrive_is_answered_with_408():
    async with run_gateway() as gateway, open_client(gateway.port) as client:
        clock = SweepClock(gateway)
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost:")
        await wait_until(lambda: gateway.connections and gateway.connections[0].incomplete_request())
        await clock.advance(125)
        answer = await client.read_answer()
        assert (answer.status, answer.json["code"]) == (408, "client_stalled")
        assert await client.is_closed_by_peer()


async def test_a_body_for_an_asgi_route_that_does_not_arrive_is_answered_with_408():
    async with run_gateway() as gateway, open_client(gateway.port) as client:
        clock = SweepClock(gateway)
        await client.send(post("/api/show", b"{", length=False, headers=("content-length: 50",)))
        await wait_until(lambda: gateway.connections and gateway.connections[0].incomplete_request())
        await clock.advance(125)
        assert (await client.read_answer()).status == 408
        assert await client.is_closed_by_peer()


async def test_a_body_that_arrives_too_slowly_is_answered_with_408():
    async with run_gateway() as gateway, open_client(gateway.port) as client:
        clock = SweepClock(gateway)
        await client.send(post("/v1/chat/completions", b"", length=False, headers=("content-length: 100000",)))
        for _ in range(13):
            await client.send(b"x" * 10)
            await clock.advance(10)
        assert (await client.read_answer()).status == 408


async def test_a_large_body_may_take_long_while_it_makes_progress():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        clock = SweepClock(gateway)
        body = CHAT.partition(b"\r\n\r\n")[2].ljust(10 * PROGRESS_BYTES)
        async with open_client(gateway.port) as client:
            request = post("/v1/chat/completions", body)
            for at in range(0, len(request), PROGRESS_BYTES):
                await client.send(request[at : at + PROGRESS_BYTES])
                await clock.advance(100)
            assert (await client.read_answer()).body == ANSWER


async def test_the_request_timeout_begins_with_the_request_not_with_the_connection():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url), keep_alive=1000) as gateway:
        clock = SweepClock(gateway)
        async with open_client(gateway.port) as client:
            await client.send(CHAT)
            await client.read_answer()
            await clock.advance(500)
            await client.send(CHAT[:-5])
            await clock.advance(100)
            await client.send(CHAT[-5:])
            assert (await client.read_answer()).body == ANSWER


async def test_a_long_call_does_not_count_against_the_client():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url, first_byte=1e9)) as gateway:
        clock = SweepClock(gateway)
        async with open_client(gateway.port) as client:
            await client.send(CHAT)
            await engine.asked.wait()
            await clock.advance(1000)
            assert await client.is_silent(0.01)
            assert gateway.list_leftovers()["calls"] == 1


async def test_the_rest_of_an_unread_response_is_dropped_after_a_while():
    large = completion("x" * 5_000_000)
    async with (
        RawEngine(send_pieces(response(large))) as engine,
        run_gateway(server_settings("a", engine.url), keep_alive=20) as gateway,
    ):
        clock = SweepClock(gateway)
        for headers in ((), ("connection: close",)):
            client = await gateway.connect_slow_client()
            await client.send(post("/chat", {"message": "hi", "model": "m"}, headers=headers))
            await wait_until(lambda: gateway.unsent_bytes > 1_000_000)
            await clock.advance(15)
            assert gateway.unsent_bytes > 1_000_000
            await clock.advance(10)
            await wait_until(lambda: not gateway.unsent_bytes)
            assert not gateway.connections


async def test_the_rest_of_a_slowly_read_response_is_sent():
    large = completion("x" * 2_000_000)
    async with (
        RawEngine(send_pieces(response(large))) as engine,
        run_gateway(server_settings("a", engine.url), keep_alive=20) as gateway,
    ):
        clock = SweepClock(gateway)
        client = await gateway.connect_slow_client()
        await client.send(post("/chat", {"message": "hi", "model": "m"}))
        await wait_until(lambda: gateway.unsent_bytes > 1_000_000)
        reading = asyncio.create_task(client.read_answer())
        while not reading.done():
            await clock.advance(1)
        assert len((await reading).json["response"]) == 2_000_000


async def test_the_sweep_notices_a_disconnect_while_reading_is_paused():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        clock = SweepClock(gateway)
        client = await gateway.connect_client()
        await client.send(CHAT * 100)
        await wait_until(lambda: gateway.connections and gateway.connections[0].flow.read_paused)
        client.close()
        await run_event_loop(20)
        await clock.advance(1)
        await gateway.wait_until_idle()
        assert len(engine.requests) == 1
