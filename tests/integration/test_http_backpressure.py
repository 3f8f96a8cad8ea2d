"""Backpressure: a client that reads slowly slows its server down, does not grow the memory, and gets everything."""

import asyncio

import pytest

from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, post
from tests.support.raw_engine import (
    DONE,
    END,
    RawEngine,
    Script,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    ollama_lines,
    response,
    send_pieces,
)

MAX_BUFFERED_BYTES = 1_500_000
"""Bytes that the gateway may hold for a client: its own limit, one read of the loop, and the buffers of the kernel."""
WORD = "word " * 200
CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))


class Flood:
    """An engine's script: a stream of so many events, as fast as the reader takes them."""

    def __init__(self, events: int, *, close: bool = False, kind: str = "vllm") -> None:
        self.events = events
        self.pushed = 0
        self.done = asyncio.Event()
        self._close = close
        self._piece = event(WORD) if kind == "vllm" else ollama_lines(WORD)[0]
        self._last = event(finish="stop") + DONE if kind == "vllm" else ollama_lines()[-1]
        self._type = "text/event-stream" if kind == "vllm" else "application/x-ndjson"

    async def __call__(self, turn: Turn) -> None:
        head = chunked_head(self._type)
        await turn.send(head.replace(b"Transfer-Encoding: chunked\r\n", b"") if self._close else head)
        frame = (lambda data: data) if self._close else chunk
        for _ in range(self.events):
            if not await turn.push(frame(self._piece)):
                break
            self.pushed += len(self._piece)
            if turn.line.transport.get_write_buffer_size():
                await asyncio.sleep(0)
        await turn.send(frame(self._last) + (b"" if self._close else END))
        self.done.set()
        if self._close:
            turn.close()


async def wait_until_paused(gateway: RunningGateway, flood: Flood) -> None:
    """Wait until the engine is paused because nothing reads."""
    while True:
        before = flood.pushed
        await asyncio.sleep(0.05)
        if flood.pushed == before and before:
            return


WAYS = {
    "passed through": (STREAM, "vllm", False),
    "passed through until it closes": (STREAM, "vllm", True),
    "passed through as lines": (post("/api/chat", chat(stream=True)), "ollama", False),
    "translated": (post("/v1/messages", chat(stream=True, max_tokens=9)), "vllm", False),
    "to a client of HTTP/1.0": (post("/v1/chat/completions", chat(stream=True), version="1.0"), "vllm", False),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_stops_reading_pauses_its_server_until_it_reads_again(way: str):
    request, kind, close = WAYS[way]
    flood = Flood(30_000, close=close, kind=kind)
    async with RawEngine(flood) as engine, run_gateway(server_settings("a", engine.url, kind)) as gateway:
        client = await gateway.connect_slow_client()
        await client.send(request)
        await wait_until_paused(gateway, flood)
        assert not flood.done.is_set()
        assert gateway.unsent_bytes < MAX_BUFFERED_BYTES
        most = 0
        reading = asyncio.create_task(client.read_answer(20))
        while not reading.done():
            most = max(most, gateway.unsent_bytes)
            await asyncio.sleep(0)
        answer = await reading
        assert answer.complete
        assert answer.body.count(WORD.encode()) == 30_000
        assert most < MAX_BUFFERED_BYTES


async def test_a_large_response_is_forwarded_at_the_clients_pace():
    large = response(completion("x" * 40_000_000))
    sent = 0

    async def script(turn: Turn) -> None:
        nonlocal sent
        for at in range(0, len(large), 65536):
            await turn.push(large[at : at + 65536])
            sent += 65536

    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await gateway.connect_slow_client()
        await client.send(CHAT)
        await wait_until(lambda: sent > 1_000_000)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert gateway.unsent_bytes < MAX_BUFFERED_BYTES
        assert sent < len(large)
        assert len((await client.read_answer(20)).text) == 40_000_000


async def test_a_client_that_reads_slowly_gets_everything():
    flood = Flood(3000)
    async with RawEngine(flood) as engine, run_gateway(server_settings("a", engine.url, idle=0.4)) as gateway:
        client = await gateway.connect_slow_client()
        await client.send(STREAM)
        for _ in range(6):
            await asyncio.sleep(0.2)
            for _ in range(40):
                await client.receive()
        answer = await client.read_answer(20)
        assert answer.complete
        assert answer.body.count(WORD.encode()) == 3000


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_never_reads_is_disconnected_after_the_idle_limit(way: str):
    request, kind, close = WAYS[way]
    flood = Flood(1_000_000, close=close, kind=kind)
    async with RawEngine(flood) as engine, run_gateway(server_settings("a", engine.url, kind, idle=0.3)) as gateway:
        client = await gateway.connect_slow_client()
        await client.send(request)
        await engine.asked.wait()
        [line] = engine.lines
        await asyncio.wait_for(line.gone.wait(), 5)
        await gateway.wait_until_idle()
        await wait_until(lambda: not gateway.connections)
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0
        answer = await client.read_answer()
        assert not answer.complete or "transfer-encoding" not in answer.headers
        assert gateway.gateway.meter.take_snapshot(0.0).codes == {"client_stalled": 1}


def big(size: int) -> Script:
    return send_pieces(response(completion("x" * size)))


@pytest.mark.parametrize("together", [True, False], ids=["pipelined", "one by one"])
async def test_unread_responses_do_not_grow_the_memory(together: bool):
    async with RawEngine(big(150_000)) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        client = await gateway.connect_slow_client()
        most = 0

        async def send() -> None:
            for _ in range(1 if together else 100):
                await client.send(CHAT * (100 if together else 1))

        sending = asyncio.create_task(send())
        for _ in range(30):
            await asyncio.sleep(0.01)
            most = max(most, gateway.unsent_bytes)
        assert most < MAX_BUFFERED_BYTES
        assert len(engine.requests) < 20
        for _ in range(100):
            assert len((await client.read_answer()).text) == 150_000
        await sending
        assert len(engine.requests) == 100


async def test_unread_error_responses_do_not_grow_the_memory():
    async with run_gateway(server_settings("a", "http://127.0.0.1:1")) as gateway:
        client = await gateway.connect_slow_client()
        request = post("/v1/chat/completions", chat(model="nobody's"))
        sending = asyncio.create_task(client.send(*[request * 100] * 300))
        most = 0
        for _ in range(60):
            await asyncio.sleep(0.005)
            most = max(most, gateway.unsent_bytes)
        assert most < MAX_BUFFERED_BYTES
        for _ in range(30_000):
            assert (await client.read_answer()).status == 404
        await sending


async def test_a_slow_client_does_not_delay_others():
    flood = Flood(1_000_000)
    async with RawEngine(flood) as engine, RawEngine(big(10)) as other:
        servers = (server_settings("a", engine.url), server_settings("b", other.url, "llamacpp"))
        async with run_gateway(*servers) as gateway:
            stuck = [await gateway.connect_slow_client() for _ in range(10)]
            for client in stuck:
                await client.send(STREAM)
            await wait_until_paused(gateway, flood)
            assert gateway.unsent_bytes < 10 * MAX_BUFFERED_BYTES
            engine.script = big(10)
            for _ in range(20):
                assert (await gateway.send_request(CHAT, 2)).status == 200
