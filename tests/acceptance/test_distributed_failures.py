"""The GPU server of distributed routing dies: a lesser model answers from the laptop, and the caller is warned."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.sim import Faults, Simulator
from tests.acceptance.distributed import (
    EXAMPLES,
    EXPLANATION,
    GREETING,
    LOCAL,
    REMOTE,
    SAID,
    SURFACES,
    SYSTEM,
    WARNING,
    Route,
    ask,
    at_once,
    route,
    routed,
    written,
)
from tests.support.gateway_process import Gateway, eventually, gateway
from tests.support.real_engines import free_port
from tests.support.simulators import Simulators

LESSER = Route("complex", "qwen2.5:1.5b", "localhost")
ENGLISH = "Write an authorization system with JWT, refresh tokens and rate limiting"
IMPATIENT = "server: {timeouts: {connect: 1, first_byte: 1}}\n"


def warned(running: Gateway, local: Simulator) -> None:
    """The document's fourth example, word for word."""
    answer = ask(running, SYSTEM)
    assert route(answer) == LESSER
    told = answer.json()
    assert (told["success"], told["message"], told["warning"]) == (True, SAID, WARNING)
    assert told["metadata"]["server_used"] == local.url
    assert told["metadata"]["fallback"] is True
    assert told["metadata"]["used_fast_model"] is True
    assert answer.headers["x-penstock-fallback"] == "true"
    running.wait_for_line("Distributed routing: qwen2.5:1.5b @ localhost (fallback: True)")


@pytest.fixture
def local(simulators: Simulators) -> Iterator[Simulator]:
    """The laptop."""
    simulator = simulators.start(at_once(*LOCAL))
    yield simulator
    simulators.stop(simulator)


def beside(local: Simulator, remote: str) -> str:
    return written({"remote": (remote, "PRIMARY"), "localhost": (local.url, "SECONDARY")}, IMPATIENT)


def test_a_server_that_is_down_at_the_start_is_replaced_with_a_warning(local: Simulator, tmp_path: Path) -> None:
    with gateway(tmp_path, beside(local, f"http://127.0.0.1:{free_port()}")) as running:
        warned(running, local)
        assert "Discovery complete: 1/2 servers available, 3 unique models" in running.lines()
        for path in SURFACES:
            assert route(ask(running, SYSTEM, path)) == LESSER
        greeted = ask(running, GREETING)
        assert (route(greeted).level, route(greeted).server) == ("trivial", "localhost")
        assert "warning" not in greeted.json()  # it is what fits
        assert "warning" in ask(running, EXPLANATION).json()


def test_a_server_that_died_since_the_last_probe_is_replaced_with_a_warning(
    simulators: Simulators, local: Simulator, tmp_path: Path
) -> None:
    remote = simulators.start(at_once(*REMOTE))
    with gateway(tmp_path, beside(local, remote.url)) as running:
        assert route(ask(running, SYSTEM)).server == "remote"
        simulators.stop(remote)
        warned(running, local)
        for path in SURFACES:  # now it is known
            assert route(ask(running, SYSTEM, path)) == LESSER
        eventually(lambda: running.servers()["remote"]["state"] == "down", 10, "nobody noticed")
        warned(running, local)


@pytest.mark.parametrize(
    "fault", ["hang_before", "reset", "cut", "garbage", "status_500", "status_503", "crash_before"]
)
def test_a_server_that_dies_during_the_call_is_replaced_with_a_warning(
    simulators: Simulators, local: Simulator, tmp_path: Path, fault: str
) -> None:
    options = at_once(*REMOTE)
    dying = replace(options, faults=Faults.parse(f"{fault}=1,scope=generation"))
    remote = simulators.start(dying)
    with gateway(tmp_path, beside(local, remote.url)) as running:
        assert running.servers()["remote"]["state"] == "up"
        warned(running, local)
        for path in SURFACES:
            assert route(ask(running, SYSTEM, path)) == LESSER
    simulators.stop(remote)


def test_the_warning_is_in_the_language_of_the_question(local: Simulator, tmp_path: Path) -> None:
    with gateway(tmp_path, beside(local, f"http://127.0.0.1:{free_port()}")) as running:
        assert ask(running, ENGLISH).json()["warning"] == "A simplified model is being used"
        assert ask(running, ENGLISH, "/chat").json()["warning"] == "A simplified model is being used"
        assert ask(running, SYSTEM, "/chat").json()["warning"] == WARNING


def test_a_named_model_that_is_unavailable_is_not_replaced(
    simulators: Simulators, local: Simulator, tmp_path: Path
) -> None:
    remote = simulators.start(at_once(*REMOTE))
    with gateway(tmp_path, beside(local, remote.url)) as running:
        simulators.stop(remote)
        answer = ask(running, SYSTEM, model="qwen2.5-coder:14b")
        assert answer.status_code in (502, 503)
        assert answer.json()["success"] is False
        assert "remote" in answer.json()["error"]


def test_with_no_server_left_the_error_names_each_server(simulators: Simulators, tmp_path: Path) -> None:
    with routed(simulators, tmp_path) as (running, servers):
        simulators.stop(servers.remote)
        simulators.stop(servers.local)
        eventually(lambda: ask(running, SYSTEM).status_code == 503, 10, "no 503")
        told = ask(running, SYSTEM).json()
        assert told["success"] is False
        assert "remote" in told["error"]
        assert "localhost" in told["error"]


def test_a_server_that_recovers_is_used_again(simulators: Simulators, local: Simulator, tmp_path: Path) -> None:
    remote = simulators.start(at_once(*REMOTE))
    with gateway(tmp_path, beside(local, remote.url)) as running:
        port = remote.port
        simulators.stop(remote)
        warned(running, local)
        again = simulators.start(replace(at_once(*REMOTE), port=port))
        eventually(lambda: route(ask(running, SYSTEM)).server == "remote", 10, "it gets nothing though it is back")
        simulators.stop(again)


def test_streams_have_no_warning_but_name_the_server(local: Simulator, tmp_path: Path) -> None:
    with gateway(tmp_path, beside(local, f"http://127.0.0.1:{free_port()}")) as running:
        for path in ("/v1/chat/completions", "/api/chat", "/v1/messages"):
            answer = ask(running, SYSTEM, path, stream=True)
            assert route(answer) == LESSER
            assert answer.headers["x-penstock-fallback"] == "true"
        lines = ask(running, SYSTEM, "/api/chat", stream=True).text.splitlines()
        assert json.loads(lines[-1])["done"] is True


def test_all_examples_are_answered_by_the_laptop_alone(local: Simulator, tmp_path: Path) -> None:
    with gateway(tmp_path, beside(local, f"http://127.0.0.1:{free_port()}")) as running:
        for text, wanted in EXAMPLES.items():
            found = route(ask(running, text))
            assert (found.level, found.server) == (wanted.level, "localhost")
