"""A client that disconnects stops the server within a second, at any moment, and leaves nothing behind."""

import asyncio
import random
import socket

import pytest

from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import RawClient, chat, post, run_event_loop
from tests.support.raw_engine import (
    END,
    RawEngine,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    response,
    run_in_order,
    send_pieces,
    send_pieces_then,
    stream_events,
)

CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))
GOOD = send_pieces(response(completion("hello")))
REQUESTS = {
    "plain": CHAT,
    "streamed": STREAM,
    "translated": post("/v1/messages", chat(max_tokens=9)),
    "translated stream": post("/api/chat", chat(stream=True)),
}
STREAMS = {name: request for name, request in REQUESTS.items() if "stream" in name}
WAYS = ["close", "reset"]


async def send_endless_text(turn: Turn) -> None:
    """Send endless text, as fast as the reader takes it."""
    await turn.send(chunked_head())
    while not turn.gone.is_set():
        await turn.push(chunk(event("word")) * 50)
        await asyncio.sleep(0)


async def check_disconnected(engine: RawEngine, gateway: RunningGateway) -> None:
    """Check that both connections close within a second and no error is counted."""
    await asyncio.wait_for(asyncio.gather(*(line.gone.wait() for line in engine.lines)), 1)
    await gateway.wait_until_idle()
    assert {live.consecutive_failures for live in gateway.gateway.catalog.loads.values()} == {0}
    await wait_until(lambda: not gateway.connections)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REQUESTS)
async def test_disconnecting_before_the_first_byte(kind: str, way: str):
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(REQUESTS[kind])
        await engine.asked.wait()
        assert gateway.list_leftovers() == {"calls": 1, "slots": 1, "busy connections": 1, "connecting": 0}
        getattr(client, way)()
        await check_disconnected(engine, gateway)


@pytest.mark.parametrize("kind", REQUESTS)
async def test_disconnecting_after_the_response_head(kind: str):
    async with (
        RawEngine(send_pieces_then("hang", chunked_head())) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        client = await RawClient.connect(gateway.port)
        await client.send(REQUESTS[kind])
        await engine.asked.wait()
        await run_event_loop()
        client.close()
        await check_disconnected(engine, gateway)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", STREAMS)
async def test_disconnecting_in_the_middle_of_a_stream(kind: str, way: str):
    script = send_pieces_then("hang", chunked_head() + chunk(event("one")))
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(STREAMS[kind])
        while b"one" not in client.received:
            await client.receive()
        getattr(client, way)()
        await check_disconnected(engine, gateway)


async def test_disconnecting_from_a_fast_stream():
    async with RawEngine(send_endless_text) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(STREAM)
        while len(client.received) < 100_000:
            await client.receive()
        client.received.clear()
        client.close()
        await check_disconnected(engine, gateway)


async def test_disconnecting_from_a_stream_without_reading_it():
    async with RawEngine(send_endless_text) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await gateway.connect_slow_client()
        await client.send(STREAM)
        await wait_until(lambda: gateway.unsent_bytes > 65536)
        client.reset()
        await check_disconnected(engine, gateway)


async def test_disconnecting_in_the_middle_of_an_unstreamed_response():
    half = response(completion("x" * 400_000))[:300_000]
    async with (
        RawEngine(send_pieces_then("hang", half)) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        client = await RawClient.connect(gateway.port)
        await client.send(CHAT)
        await client.receive()
        client.close()
        await check_disconnected(engine, gateway)


async def test_disconnecting_while_the_engine_is_being_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it accepts connections, and never sends a byte
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with run_gateway(server_settings("a", url)) as gateway:
            client = await RawClient.connect(gateway.port)
            await client.send(CHAT)
            await wait_until(lambda: gateway.list_leftovers()["connecting"])
            client.close()
            await gateway.wait_until_idle()
            assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0


async def test_disconnecting_while_sending_the_request():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(CHAT[:-10])
        await wait_until(lambda: gateway.connections and gateway.connections[0].cycle is not None)
        client.close()
        await wait_until(lambda: not gateway.connections)
        assert not any(gateway.list_leftovers().values())
        assert not engine.requests


async def test_requests_queued_by_a_disconnected_client_are_never_sent():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(CHAT * 5)
        await engine.asked.wait()
        client.close()
        await check_disconnected(engine, gateway)
        assert len(engine.requests) == 1


async def test_disconnecting_before_the_first_server_refuses_prevents_a_second_attempt():
    go_on = asyncio.Event()

    async def refuse(turn: Turn) -> None:
        await go_on.wait()
        await turn.send(response(b"{}", status="503 Busy"))

    async with (
        RawEngine(refuse) as first,
        RawEngine(GOOD) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url, priority="SECONDARY")) as gateway,
    ):
        client = await RawClient.connect(gateway.port)
        await client.send(CHAT)
        await first.asked.wait()
        client.close()
        await gateway.wait_until_idle()
        go_on.set()
        await run_event_loop()
        assert not second.requests


async def test_disconnecting_does_not_disturb_another_call_on_a_reused_connection():
    """The connection of a busy server returns to the pool, and another call uses it as the first client leaves."""
    refusal = send_pieces(response(b'{"error":"busy"}', status="503 Busy"))
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await go_on.wait()
        await GOOD(turn)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with (
            RawEngine(run_in_order(refusal, late)) as first,
            run_gateway(server_settings("a", first.url), server_settings("b", url, priority="FALLBACK")) as gateway,
        ):
            impatient = await RawClient.connect(gateway.port)
            await impatient.send(CHAT)
            await wait_until(
                lambda: (
                    first.requests
                    and gateway.list_leftovers()["connecting"]
                    and not gateway.list_leftovers()["busy connections"]
                )
            )
            gateway.gateway.catalog.loads["a"].last_failed_at = 0.0
            other = asyncio.create_task(gateway.send_request(CHAT))
            await wait_until(lambda: len(first.requests) == 2)
            assert first.accepted == 1
            impatient.close()
            await wait_until(lambda: not gateway.list_leftovers()["connecting"])
            await run_event_loop()
            go_on.set()
            assert (await other).text == "hello"


async def test_a_disconnect_counts_as_such_and_not_as_an_error():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(CHAT)
        await engine.asked.wait()
        client.close()
        await check_disconnected(engine, gateway)
        counted = gateway.gateway.meter.take_snapshot(0.0).all
        assert (counted.disconnects, counted.errors) == (1, 0)


async def test_a_hundred_clients_may_disconnect_at_any_moment():
    dice = random.Random(7)

    async def script(turn: Turn) -> None:
        pieces = [chunked_head(), *map(chunk, stream_events(*"abcdefgh")), END]
        for piece in pieces:
            await turn.send(piece)
            if dice.random() < 0.1:
                await turn.hang()

    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        for _ in range(100):
            client = await RawClient.connect(gateway.port)
            await client.send(dice.choice(list(REQUESTS.values())) * dice.randint(1, 3))
            await run_event_loop(dice.randint(0, 12))
            getattr(client, dice.choice(WAYS))()
        await gateway.wait_until_idle()
        await wait_until(lambda: not gateway.connections)
        engine.script = GOOD
        assert (await gateway.send_request(CHAT)).text == "hello"
