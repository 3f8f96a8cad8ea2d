"""Victoria against the simulated server, over real sockets."""

import asyncio
import math
from dataclasses import replace
from http.client import HTTPConnection, IncompleteRead

import pytest

from penstock.domain.content import AgentTask
from penstock.domain.errors import UpstreamCut, UpstreamError
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.domain.response import ModelResponse, assemble_response
from penstock.engines.base import FetchResponse
from penstock.engines.victoria.async_run import RunReader
from penstock.engines.victoria.engine import ENGINE
from penstock.sim import SimOptions, Simulator
from penstock.sim.faults import Faults

FAST = SimOptions(kind="victoria", tokens_per_second=math.inf, prefill_tokens_per_second=math.inf, load_seconds=0)


async def exchange(port: int, method: str, path: str, body: bytes) -> FetchResponse:
    def talk() -> FetchResponse:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            answer = connection.getresponse()
            return FetchResponse(answer.status, answer.read())
        except IncompleteRead as cut:
            return FetchResponse(200, cut.partial)
        finally:
            connection.close()

    return await asyncio.to_thread(talk)


async def run_task(task: AgentTask, options: SimOptions = FAST, stream: bool = False) -> ModelResponse:
    """Run a task as the gateway does."""
    call = Call("agent.stream", Operation.AGENT, "", stream, b"")
    outgoing = ENGINE.translate_request(call, task, Model("victoria"))
    async with Simulator(options) as simulator:
        came = await exchange(simulator.port, outgoing.method, outgoing.path, outgoing.body)
        if came.status == 404 and outgoing.fallback is not None:
            outgoing = outgoing.fallback
            came = await exchange(simulator.port, outgoing.method, outgoing.path, outgoing.body)
        if came.status >= 300:
            raise ENGINE.parse_error_response(came.status, came.body, None)
        reader = ENGINE.create_reader(call, task, outgoing)
        chunks = [*reader.feed(came.body), *reader.close()]
        while isinstance(reader, RunReader) and reader.next_poll is not None:
            chunks += reader.read_poll(await exchange(simulator.port, "GET", reader.next_poll.path, b""))
    return assemble_response(chunks)


async def test_a_task_gives_the_same_text_streamed_or_not() -> None:
    single = await run_task(AgentTask("Сделай отчёт"))
    streamed = await run_task(AgentTask("Сделай отчёт"), stream=True)
    assert "Сделай отчёт" in single.choices[0].text
    assert streamed.choices == single.choices
    assert streamed.steps == ("Читаю цель", "Выбираю эксперта", "Пишу ответ")
    assert set(single.steps) <= set(streamed.steps)


async def test_an_older_version_without_a_stream_responds_too() -> None:
    answer = await run_task(AgentTask("go"), replace(FAST, progress=False), stream=True)
    assert "go" in answer.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clarification_is_read(stream: bool) -> None:
    answer = await run_task(AgentTask("Сделай [уточни]"), stream=stream)
    assert answer.steps == ("Нужно уточнение:\n1. Что именно должно получиться?\nЦель понята так: Сделай",)
    assert answer.choices[0].text == ""


async def test_a_plan_comes_in_lines() -> None:
    answer = await run_task(AgentTask("go", plan=True))
    assert answer.choices[0].text.splitlines()[0] == "1. Reading the goal"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["crash_before", "status_500", "status_503", "bad_json"])
async def test_a_fault_is_an_upstream_error(stream: bool, fault: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await run_task(AgentTask("go"), replace(FAST, faults=Faults.parse(fault)), stream)
    assert caught.value.message.startswith("Victoria")
    assert caught.value.retryable


async def test_a_cut_stream_is_not_complete() -> None:
    with pytest.raises(UpstreamCut):
        await run_task(AgentTask("go"), replace(FAST, faults=Faults.parse("cut")), stream=True)


async def test_a_probe_finds_the_agent() -> None:
    async with Simulator(FAST) as simulator:
        look = ENGINE.inspect_server(())
        wanted = next(look)
        came = await exchange(simulator.port, wanted.method, wanted.path, wanted.body)
        with pytest.raises(StopIteration) as done:
            look.send(came)
    found = done.value.value
    assert isinstance(found, Inventory)
    assert (found.state, found.detail, [model.name for model in found.models]) == (State.UP, "Victoria", ["victoria"])
