"""SIGTERM drains: new requests are rejected, running responses complete, exit code 0. A second signal stops at once."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.chat_endpoints import STREAMING_ENDPOINTS
from tests.support.gateway import wait_until
from tests.support.gateway_process import Gateway, run_gateway_process
from tests.support.raw_client import BrokenAnswerError, RawClient, chat, get, post
from tests.support.raw_engine import DONE, END, RawEngine, Turn, chunk, chunked_head, completion, event, response

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
STREAM = post("/v1/chat/completions", chat(stream=True))
CHAT = post("/v1/chat/completions", chat())


@dataclass
class Slow:
    """An engine that answers when the test allows it; probes at once."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, turn: Turn) -> None:
        if turn.request.method == "GET":
            await turn.send(response(MODELS if turn.request.path == "/v1/models" else b"{}"))
        elif turn.request.json.get("stream"):
            await turn.send(chunked_head() + chunk(event("started")))
            await self.go_on.wait()
            await turn.send(chunk(event(" and ended") + event(finish="stop") + DONE) + END)
        else:
            await self.go_on.wait()
            await turn.send(response(completion("answered")))


@dataclass
class Working:
    """A Victoria of the version before streams: it takes a task and ends it when the test allows it."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, turn: Turn) -> None:
        path, missing = turn.request.path, response(b"{}", status="404 Not Found")
        status = b'{"status":"running","stage":"reading"}'
        if self.go_on.is_set():
            status = b'{"status":"completed","output":" and ended"}'
        known = {
            "/health": response(b'{"status":"ok","agent":"Victoria"}'),
            "/run?async_mode=true": response(b'{"task_id":"t","status":"queued"}', status="202 Accepted"),
            "/run/status/t": response(status),
        }
        await turn.send(known.get(path, missing))


@dataclass
class GatewayProcess:
    gateway: Gateway
    engine: RawEngine
    slow: Slow

    @property
    def port(self) -> int:
        return int(self.gateway.url.rpartition(":")[2])

    @property
    def calls(self) -> int:
        return sum(request.method == "POST" for request in self.engine.requests)

    async def start_request(self, request: bytes) -> RawClient:
        """Send a request; it runs when this returns."""
        calls = self.calls
        client = await RawClient.connect(self.port)
        await client.send(request)
        await wait_until(lambda: self.calls > calls)
        if b"true" in request:
            while b"started" not in client.received:
                await client.receive()
        return client

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.gateway.process.send_signal(number)

    async def exit_code(self, within: float = 5.0) -> int:
        """Return its exit code when it has ended."""
        return await asyncio.wait_for(asyncio.to_thread(self.gateway.process.wait, within), within + 1)

    async def is_refusing(self) -> bool:
        """Return True if new connections are refused by now."""
        try:
            client = await RawClient.connect(self.port)
        except OSError:
            return True
        client.close()
        return False

    async def wait_until_refusing(self) -> None:
        deadline = time.monotonic() + 5
        while not await self.is_refusing():
            assert time.monotonic() < deadline, "it still accepts connections"
            await asyncio.sleep(0.02)


@pytest.fixture
async def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[GatewayProcess]:
    """A gateway in a process of its own, in front of one slow engine; `drain_seconds` may be a parameter."""
    drain = getattr(request, "param", 30)
    slow = Slow()
    async with RawEngine(slow) as engine, RawEngine(Working(slow.go_on)) as victoria:
        providers = {"vllm": {"servers": [{"name": "a", "url": engine.url}]}, "victoria": {"url": victoria.url}}
        settings = json.dumps({"llm": {"providers": providers}, "server": {"drain_seconds": drain}})
        process = run_gateway_process(tmp_path / "gateway", settings)
        running = await asyncio.to_thread(process.__enter__)
        try:
            yield GatewayProcess(running, engine, slow)
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)


async def test_running_responses_complete_and_the_exit_code_is_0(gateway: GatewayProcess):
    streamed, unstreamed = await gateway.start_request(STREAM), await gateway.start_request(CHAT)
    idle = await RawClient.connect(gateway.port)
    await idle.send(get("/livez"))
    assert (await idle.read_answer()).status == 200
    gateway.signal()
    await gateway.wait_until_refusing()
    assert await idle.is_closed_by_peer()
    assert gateway.gateway.process.poll() is None
    gateway.slow.go_on.set()
    assert (await streamed.read_answer()).text == "started and ended"
    assert (await unstreamed.read_answer()).text == "answered"
    assert await gateway.exit_code() == 0
    for client in (streamed, unstreamed, idle):
        client.close()


async def test_new_requests_are_rejected_while_draining(gateway: GatewayProcess):
    streamed = await gateway.start_request(STREAM)
    kept = [await RawClient.connect(gateway.port) for _ in range(5)]
    for client in kept:
        head, _, body = CHAT.partition(b"\r\n\r\n")
        await client.send(head + b"\r\nexpect: 100-continue\r\n\r\n" + body[:-1])
        assert (await client.read_answer()).status == 100
    calls = gateway.calls
    gateway.signal()
    await gateway.wait_until_refusing()
    for client in kept:  # their requests had started, so their connections are still open
        await client.send(CHAT[-1:])
        answer = await client.read_answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "shutting_down")
        assert answer.headers["connection"] == "close"
        client.close()
    assert gateway.calls == calls
    gateway.slow.go_on.set()
    assert (await streamed.read_answer()).text == "started and ended"
    assert await gateway.exit_code() == 0
    streamed.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_stops_at_once(gateway: GatewayProcess, number: int):
    start_request = time.monotonic()
    gateway.signal(number)
    assert await gateway.exit_code() == 0
    assert time.monotonic() - start_request < 3
    assert "Traceback" not in gateway.gateway.read_log()


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
async def test_a_second_signal_stops_at_once(gateway: GatewayProcess, numbers: tuple[int, int]):
    streamed = await gateway.start_request(STREAM)
    gateway.signal(numbers[0])
    await gateway.wait_until_refusing()
    assert gateway.gateway.process.poll() is None
    start_request = time.monotonic()
    gateway.signal(numbers[1])
    assert await gateway.exit_code() == 0
    assert time.monotonic() - start_request < 3
    streamed.close()
    assert "Traceback" not in gateway.gateway.read_log()


@pytest.mark.parametrize("gateway", [1], indirect=True)
async def test_a_response_that_exceeds_the_drain_time_ends_with_an_error(gateway: GatewayProcess):
    streamed = await gateway.start_request(STREAM)
    gateway.signal()
    answer = await streamed.read_answer()
    assert answer.status == 200
    assert "stopping" in STREAMING_ENDPOINTS["openai"].find_error(answer)
    assert await gateway.exit_code() == 0
    streamed.close()
    assert "Traceback" not in gateway.gateway.read_log()


async def start_agent_run(gateway: GatewayProcess) -> RawClient:
    """Start an agent's run and wait for its first step."""
    client = await RawClient.connect(gateway.port)
    await client.send(post("/api/chat/stream", {"content": "go"}))
    while b"reading" not in client.received:
        await client.receive()
    return client


async def test_a_polled_agent_run_completes(gateway: GatewayProcess):
    client = await start_agent_run(gateway)
    gateway.signal()
    await gateway.wait_until_refusing()
    gateway.slow.go_on.set()
    answer = await client.read_answer()
    assert b" and ended" in answer.body
    assert b"event: error" not in answer.body
    assert await gateway.exit_code() == 0
    client.close()


@pytest.mark.parametrize("gateway", [0.5], indirect=True)
async def test_a_polled_agent_run_that_exceeds_the_drain_time_ends_with_an_error(gateway: GatewayProcess):
    client = await start_agent_run(gateway)
    gateway.signal()
    answer = await client.read_answer()
    assert (answer.status, answer.complete) == (200, True)
    error, end = map(json.loads, answer.data[-2:])
    assert "stopping" in error["message"]
    assert end["status"] == "error"
    assert await gateway.exit_code() == 0
    client.close()
    assert "Traceback" not in gateway.gateway.read_log()


async def test_a_disconnected_client_does_not_delay_the_stop(gateway: GatewayProcess):
    streamed = await gateway.start_request(STREAM)
    gateway.signal()
    await gateway.wait_until_refusing()
    streamed.close()
    assert await gateway.exit_code() == 0


async def test_queued_pipelined_requests_are_rejected_while_draining(gateway: GatewayProcess):
    client = await gateway.start_request(CHAT * 3)
    gateway.signal()
    await gateway.wait_until_refusing()
    gateway.slow.go_on.set()
    assert (await client.read_answer()).text == "answered"
    with contextlib.suppress(BrokenAnswerError):
        while True:
            assert (await client.read_answer()).status == 503
    assert await gateway.exit_code() == 0
    assert gateway.calls == 1
    client.close()
