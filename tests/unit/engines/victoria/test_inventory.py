"""Probe of a Victoria server."""

import json

import pytest

from penstock.domain.errors import UpstreamError
from penstock.domain.fleet import Inventory, State
from penstock.engines.base import FetchResponse
from penstock.engines.victoria.engine import ENGINE


def inspect(*answers: FetchResponse) -> tuple[Inventory, list[str]]:
    inspection = ENGINE.inspect_server(())
    paths = [next(inspection).path]
    waiting = list(answers)
    while True:
        try:
            paths.append(inspection.send(waiting.pop(0)).path)
        except StopIteration as end:
            return end.value, paths


@pytest.mark.parametrize("word", ["ok", "healthy", "OK"])
def test_a_healthy_one_has_one_model(word: str) -> None:
    found, paths = inspect(
        FetchResponse(200, json.dumps({"status": word, "agent": "Виктория", "version": "2.1"}).encode())
    )
    assert (found.state, found.version, found.detail) == (State.UP, "2.1", "Виктория")
    assert [model.name for model in found.models] == ["victoria"]
    assert found.models[0].capabilities == {"agent", "completion"}
    assert paths == ["/health"]


def test_a_server_without_an_agent_name_must_have_a_status_page() -> None:
    found, paths = inspect(FetchResponse(200, b'{"status":"ok"}'), FetchResponse(200, b"{}"))
    assert (found.state, paths) == (State.UP, ["/health", "/status"])
    with pytest.raises(UpstreamError, match="not Victoria"):
        inspect(FetchResponse(200, b'{"status":"ok"}'), FetchResponse(404))


@pytest.mark.parametrize(
    ("status", "word", "state"),
    [(200, "starting", State.LOADING), (503, "loading", State.LOADING), (200, "degraded", State.DOWN)],
)
def test_an_unhealthy_server_is_not_up(status: int, word: str, state: State) -> None:
    found, _ = inspect(FetchResponse(status, json.dumps({"status": word, "agent": "v"}).encode()))
    assert (found.state, found.detail) == (state, f"its status is {word}")


@pytest.mark.parametrize(
    "answer",
    [
        FetchResponse(200),
        FetchResponse(200, b"ok"),
        FetchResponse(200, b"[]"),
        FetchResponse(200, b"\xff\xfe"),
        FetchResponse(200, b"[" * 10_000),
        FetchResponse(404, b'{"detail":"Not Found"}'),
        FetchResponse(500, b'{"status":"ok","agent":"v"}'),
    ],
)
def test_another_server_is_not_victoria(answer: FetchResponse) -> None:
    with pytest.raises(UpstreamError):
        inspect(answer)
