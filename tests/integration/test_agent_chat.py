"""Agent chat: Victoria, then MLX, and no other server; long runs, older versions, and disconnects."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from penstock.gateway.upstream.relay import polling
from penstock.sim import Faults, SimOptions, Simulator
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import Answer, RawClient, get, post, run_event_loop
from tests.support.raw_engine import RawEngine, Turn, chunk, chunked_head, response

SEND = post("/api/chat/send", {"content": "go"})
STREAM = post("/api/chat/stream", {"content": "go"})
ONLY_MLX = post("/api/chat/send", {"content": "go", "use_victoria": False})
NOT_FOUND = response(b'{"detail":"Not Found"}', status="404 Not Found")


def parse_events(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    names = [line[7:].decode() for line in answer.body.splitlines() if line.startswith(b"event: ")]
    return list(zip(names, map(msgspec.json.decode, answer.data), strict=True))


def join_chunks(answer: Answer) -> str:
    return "".join(data.get("content", "") for name, data in parse_events(answer) if name == "chunk")


@dataclass
class Agent:
    """A Victoria before streams: it takes a task and returns one status per poll, the last one repeatedly."""

    statuses: list[Any] = field(default_factory=list)
    accepts: bool = True
    looks: int = 0
    asked: list[str] = field(default_factory=list)

    async def __call__(self, turn: Turn) -> None:
        path = turn.request.path
        self.asked.append(path)
        if path == "/run?async_mode=true" and self.accepts:
            accepted = b'{"task_id":"t1","status":"queued","status_url":"/run/status/t1"}'
            await turn.send(response(accepted, status="202 Accepted"))
        elif path == "/run/status/t1":
            status = self.statuses[min(self.looks, len(self.statuses) - 1)]
            self.looks += 1
            if isinstance(status, bytes):
                await turn.send(status)
            else:
                await turn.send(response(json.dumps(status).encode()))
        elif path.startswith("/run"):
            await turn.send(response(b'{"status":"success","output":"at once"}'))
        else:
            await turn.send(NOT_FOUND)


def running_status(stage: str) -> dict[str, str]:
    return {"status": "running", "stage": stage}


def completed_status(output: Any = "the answer") -> dict[str, Any]:
    return {"status": "completed", "stage": "completed", "output": output, "error": None}


BUSY = response(b'{"detail":"busy"}', status="503 Service Unavailable")
UNKNOWN_TASK = response(b'{"detail":"Task not found"}', status="404 Not Found")


@dataclass
class Chain:
    """A gateway in front of a scripted Victoria and simulated MLX and Ollama."""

    gateway: RunningGateway
    engine: RawEngine
    agent: Agent
    mlx: Simulator
    ollama: Simulator

    async def ask(self, request: bytes = STREAM) -> Answer:
        answer: Answer = await self.gateway.send_request(request)
        return answer


@pytest.fixture
async def chain(request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    """Run the chain; `total` seconds may be a parameter. Check at the end that Ollama got no call."""
    total = getattr(request, "param", 30.0)
    agent = Agent()
    async with AsyncExitStack() as stack:
        mlx = await stack.enter_async_context(Simulator(SimOptions.instant("mlx", "m", text="from MLX")))
        ollama = await stack.enter_async_context(Simulator(SimOptions.instant("ollama", "m")))
        engine = await stack.enter_async_context(RawEngine(agent))
        victoria = server_settings("victoria", engine.url, "victoria")
        gateway = await stack.enter_async_context(
            run_gateway(
                server_settings("ollama", ollama.url, "ollama", priority="PRIMARY"),
                replace(victoria, timeouts=replace(victoria.timeouts, total=total)),
                server_settings("mlx", mlx.url, "mlx"),
            )
        )
        yield Chain(gateway, engine, agent, mlx, ollama)
        assert not ollama.counters.requests


async def test_a_long_run_is_polled_until_it_ends_and_its_stages_are_steps(chain: Chain):
    chain.agent.statuses = [
        running_status("Reading"),
        running_status("Reading"),
        running_status("Writing"),
        completed_status(),
    ]
    answer = await chain.ask()
    events = parse_events(answer)
    assert [name for name, _ in events] == ["start", "step", "step", "chunk", "end"]
    assert [data["step"] for name, data in events if name == "step"] == ["Reading", "Writing"]
    assert events[0][1]["provider"] == "victoria"
    assert join_chunks(answer) == "the answer"
    assert events[-1][1]["status"] == "success"
    assert chain.agent.looks == 4
    assert not chain.mlx.counters.requests


async def test_an_unstreamed_response_waits_for_a_long_run_too(chain: Chain):
    chain.agent.statuses = [running_status("Reading"), completed_status()]
    body = (await chain.ask(SEND)).json
    assert (body["status"], body["content"], body["provider"]) == ("success", "the answer", "victoria")
    assert body["steps"] == ["Reading"]


async def test_other_apis_get_the_answer_of_a_long_run_too(chain: Chain):
    chain.agent.statuses = [running_status("Reading"), completed_status()]
    answer = await chain.ask(post("/api/v1/chat", {"message": "go", "model": "m", "provider": "victoria"}))
    assert answer.json["message"] == "the answer"


async def test_a_version_without_asynchronous_runs_is_supported(chain: Chain):
    chain.agent.accepts = False
    assert (await chain.ask(SEND)).json["content"] == "at once"
    assert join_chunks(await chain.ask()) == "at once"
    assert chain.agent.looks == 0


async def test_an_unsupported_path_is_not_requested_again(chain: Chain):
    chain.agent.statuses = [completed_status()]
    for _ in range(3):
        assert join_chunks(await chain.ask()) == "the answer"
    assert chain.agent.asked.count("/stream") == 1
    assert chain.agent.asked.count("/run?async_mode=true") == 3


async def test_a_clarification_is_a_step(chain: Chain):
    question = {"status": "needs_clarification", "clarification_questions": ["Which?"], "original_goal": "go"}
    chain.agent.statuses = [running_status("Reading"), question]
    events = parse_events(await chain.ask())
    assert "Which?" in [data["step"] for name, data in events if name == "step"][-1]
    assert events[-1][1]["status"] == "success"
    chain.agent.looks = 0
    assert "Which?" in (await chain.ask(SEND)).json["content"]


@pytest.mark.parametrize("end", [{"status": "failed", "error": "no memory"}, UNKNOWN_TASK], ids=["fails", "is unknown"])
async def test_mlx_answers_when_a_run_fails_before_its_first_byte(chain: Chain, end: Any):
    chain.agent.statuses = [{"status": "running"}, end]
    answer = await chain.ask()
    assert join_chunks(answer) == "from MLX"
    assert parse_events(answer)[0][1]["fallback"] is True


async def test_a_run_that_fails_after_its_first_step_ends_with_an_error(chain: Chain):
    chain.agent.statuses = [running_status("Reading"), {"status": "failed", "error": "no memory"}]
    events = parse_events(await chain.ask())
    assert [name for name, _ in events] == ["start", "step", "error", "end"]
    assert "no memory" in events[2][1]["message"]
    assert events[-1][1]["status"] == "error"
    assert not chain.mlx.counters.requests


async def test_a_failed_poll_does_not_end_a_run(chain: Chain):
    chain.agent.statuses = [running_status("Reading"), BUSY, BUSY, completed_status()]
    assert join_chunks(await chain.ask()) == "the answer"


async def test_a_run_that_cannot_be_polled_any_more_is_abandoned(chain: Chain):
    chain.agent.statuses = [{"status": "running"}, BUSY]
    assert join_chunks(await chain.ask()) == "from MLX"
    assert chain.agent.looks == 1 + polling.MAX_FAILED_POLLS + 1


@pytest.mark.parametrize("chain", [0.3], indirect=True)
async def test_a_run_that_never_ends_is_abandoned_after_its_time_limit(chain: Chain):
    chain.agent.statuses = [running_status("Thinking")]
    events = parse_events(await chain.ask())
    assert [name for name, _ in events] == ["start", "step", "error", "end"]
    assert (events[2][1]["code"], events[2][1]["status"]) == ("upstream_timeout", 504)
    assert "0.3 s" in events[2][1]["message"]


@pytest.mark.parametrize("request_", [SEND, STREAM], ids=["send", "stream"])
async def test_the_run_of_a_disconnected_client_is_not_polled_any_more(chain: Chain, request_: bytes):
    chain.agent.statuses = [{"status": "running"}]
    client = await RawClient.connect(chain.gateway.port)
    await client.send(request_)
    await wait_until(lambda: chain.agent.looks >= 2)
    client.close()
    await chain.gateway.wait_until_idle()
    looks = chain.agent.looks
    await run_event_loop(100)
    assert chain.agent.looks == looks
    assert chain.gateway.gateway.catalog.loads["victoria"].consecutive_failures == 0
    assert not chain.mlx.counters.requests


@pytest.mark.parametrize("kind", ["victoria", "mlx"])
async def test_a_client_that_disconnects_ends_the_work_on_its_stream(kind: str):
    slow = SimOptions(kind, models=("m",), load_seconds=0, tokens_per_second=20, text="a long answer " * 500)
    async with Simulator(slow) as engine, run_gateway(server_settings("a", engine.url, kind)) as gateway:
        client = await RawClient.connect(gateway.port)
        await client.send(STREAM)
        while b"event: start" not in client.received:
            await client.receive()
        assert engine.running == 1
        client.close()
        await gateway.wait_until_idle()
        await wait_until(lambda: engine.counters.cancelled == 1, 1)
        assert engine.running == 0


async def test_a_broken_stream_is_not_restarted_on_mlx(chain: Chain):
    async def breaks(turn: Turn) -> None:
        await turn.send(chunked_head() + chunk(b'event: chunk\ndata: {"content": "half of"}\n\n'))
        turn.reset()

    chain.engine.script = breaks
    events = parse_events(await chain.ask())
    assert [name for name, _ in events] == ["start", "chunk", "error", "end"]
    assert not chain.mlx.counters.requests


async def test_victoria_gets_no_call_if_the_request_excludes_it(chain: Chain):
    body = (await chain.ask(ONLY_MLX)).json
    assert (body["content"], body["provider"]) == ("from MLX", "mlx")
    assert not chain.agent.asked


async def test_no_agent_chat_request_reaches_ollama(chain: Chain):
    chain.agent.statuses = [completed_status()]
    for request in (SEND, STREAM, ONLY_MLX, get("/api/chat/status"), get("/api/chat/models")):
        assert (await chain.ask(request)).status == 200
    await chain.ask(post("/api/chat/plan", {"content": "go"}))


async def test_ollama_gets_no_call_even_if_it_is_the_only_server_up():
    async with Simulator(SimOptions.instant("ollama", "m")) as ollama, Simulator(SimOptions.instant("mlx")) as away:
        url = away.url
        await away.stop()
        servers = [
            server_settings("ollama", ollama.url, "ollama"),
            server_settings("mlx", url, "mlx"),
            server_settings("v", url, "victoria"),
        ]
        async with run_gateway(*servers) as gateway:
            answer = await gateway.send_request(SEND)
            assert (answer.status, answer.json["code"]) == (503, "no_server")
            assert answer.json["detail"].startswith(
                "Neither Victoria nor the MLX API server is available for this chat."
            )
            streamed = await gateway.send_request(STREAM)
            assert streamed.status == 503
            assert [name for name, _ in parse_events(streamed)] == ["error", "end"]
            assert "Neither Victoria nor the MLX API server is available" in parse_events(streamed)[0][1]["message"]
            assert url in parse_events(streamed)[0][1]["message"]
            plan = await gateway.send_request(post("/api/chat/plan", {"content": "go"}))
            assert plan.status == 503
        assert not ollama.counters.requests


async def test_a_simulated_victoria_without_a_stream_reports_its_stages():
    slow = SimOptions("victoria", tokens_per_second=60, prefill_tokens_per_second=1e9, load_seconds=0, progress=False)
    async with Simulator(replace(slow, text="as simulated")) as victoria:
        async with run_gateway(server_settings("v", victoria.url, "victoria")) as gateway:
            answer = await gateway.send_request(STREAM)
        assert join_chunks(answer) == "as simulated"
        steps = [data["step"] for name, data in parse_events(answer) if name == "step"]
        assert steps
        assert set(steps) <= {"Reading the goal", "Choosing an expert", "Writing the answer"}


async def test_a_simulated_victoria_that_fails_in_a_stream_ends_it_with_an_error():
    async with Simulator(SimOptions.instant("victoria")) as victoria:
        victoria.faults = Faults(crash_middle=1, scope="generation")
        async with run_gateway(server_settings("v", victoria.url, "victoria")) as gateway:
            events = parse_events(await gateway.send_request(STREAM))
    assert [name for name, _ in events][-2:] == ["error", "end"]


async def test_an_older_mlx_gets_only_one_chat_request():
    asked: list[str] = []

    async def older(turn: Turn) -> None:
        asked.append(turn.request.path)
        known = turn.request.path == "/api/generate"
        await turn.send(response(b'{"model":"m","response":"from a prompt","done":true}') if known else NOT_FOUND)

    async with RawEngine(older) as engine, run_gateway(server_settings("mlx", engine.url, "mlx")) as gateway:
        for _ in range(2):
            assert (await gateway.send_request(ONLY_MLX)).json["content"] == "from a prompt"
    assert asked == ["/api/chat", "/api/generate", "/api/generate"]
