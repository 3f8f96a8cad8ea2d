"""Victoria: goals, plans, steps, questions back."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.sim import Faults, SimOptions, Simulator
from tests.sim.client import Answer, ask, until
from tests.support.transcripts import parse_events

OPTIONS = SimOptions.instant("victoria")


async def run(server: Simulator, goal: str, path: str = "/run", **headers: str) -> Answer:
    return await ask(server.url, "POST", path, {"goal": goal}, headers=headers)


async def test_a_goal_is_answered_under_a_correlation_id() -> None:
    async with Simulator(OPTIONS) as server:
        given = await run(server, "Say hi", **{"X-Correlation-ID": "abc"})
        made = await run(server, "Say hi")
    assert given.json["status"] == "success"
    assert "Say hi" in given.json["output"]
    assert (given.header("x-correlation-id"), given.json["correlation_id"]) == ("abc", "abc")
    assert len(made.header("x-correlation-id") or "") == 36


async def test_a_goal_can_be_left_to_work_and_asked_after() -> None:
    async with Simulator(OPTIONS) as server:
        accepted = await run(server, "Say hi", "/run?async_mode=true")
        assert accepted.status == 202
        where = accepted.json["status_url"]
        assert where == f"/run/status/{accepted.json['task_id']}"
        await until(lambda: server.counters.completed == 1)
        told = (await ask(server.url, "GET", where)).json
        assert (told["status"], told["error"]) == ("completed", None)
        assert "Say hi" in told["output"]
        assert (await ask(server.url, "GET", "/run/status/nonsense")).status == 404


async def test_what_still_works_in_the_background_ends_with_the_server() -> None:
    async with Simulator(replace(OPTIONS, tokens_per_second=0.01)) as server:
        accepted = await run(server, "Say hi", "/run?async_mode=true")
        await until(lambda: server.running == 1)
        assert (await ask(server.url, "GET", accepted.json["status_url"])).json["status"] == "running"
    assert server.running == 0


async def test_a_stream_starts_takes_steps_speaks_and_ends() -> None:
    async with Simulator(OPTIONS) as server:
        whole = (await run(server, "Привет")).json["output"]
        answer = await run(server, "Привет", "/stream")
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    names = [line.removeprefix(b"event: ").decode() for line in answer.body.split(b"\n") if line.startswith(b"event")]
    told = parse_events(answer.body)
    assert [event["type"] for event in told] == names
    assert (names[0], names[-1]) == ("start", "end")
    assert set(names) == {"start", "step", "progress", "chunk", "end"}
    assert "".join(event["content"] for event in told if event["type"] == "chunk") == whole


async def test_an_older_version_has_no_stream() -> None:
    async with Simulator(replace(OPTIONS, progress=False)) as server:
        answer = await run(server, "hi", "/stream")
    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("marker", ["[clarify]", "[уточни]"])
async def test_an_unclear_goal_is_asked_about(marker: str) -> None:
    async with Simulator(OPTIONS) as server:
        answer = (await run(server, f"{marker} do it")).json
        streamed = parse_events((await run(server, f"{marker} do it", "/stream")).body)
    assert answer["status"] == "needs_clarification"
    assert answer["clarification_questions"]
    assert (answer["original_goal"], answer["suggested_restatement"]) == (f"{marker} do it", "do it")
    assert streamed[-1]["status"] == "needs_clarification"


async def test_it_plans_and_tells_how_it_is() -> None:
    async with Simulator(OPTIONS) as server:
        plan = (await run(server, "Say hi", "/plan")).json
        health = (await ask(server.url, "GET", "/health")).json
        status = (await ask(server.url, "GET", "/status")).json
    assert plan["status"] == "success"
    assert plan["plan"].startswith("1. ")
    assert health == {"status": "ok", "agent": "Victoria"}
    assert status["tasks_completed"] == 1


@pytest.mark.parametrize("body", [b"{", {}, {"goal": 5}, []])
async def test_a_request_without_a_goal_is_422(body: Any) -> None:
    async with Simulator(OPTIONS) as server:
        answer = await ask(server.url, "POST", "/run", body)
    assert answer.status == 422


async def test_a_failure_is_told_by_status_or_by_an_error_event() -> None:
    async with Simulator(OPTIONS) as server:
        server.faults = Faults(crash_middle=1)
        assert (await run(server, "hi")).status == 500
        assert parse_events((await run(server, "hi", "/stream")).body)[-1]["type"] == "error"
        server.faults = Faults(status_503=1)
        assert (await run(server, "hi")).header("retry-after") == "1"
