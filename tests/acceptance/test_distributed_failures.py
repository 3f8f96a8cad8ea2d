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
    SIM_TEXT,
    SURFACES,
    SYSTEM,
    WARNING,
    Route,
    ask,
    instant_ollama,
    parse_route,
    render_fleet_settings,
    run_distributed_gateway,
)
from tests.support.gateway_process import Gateway, run_gateway_process, wait_until
from tests.support.real_engines import free_port
from tests.support.simulators import Simulators

LESSER = Route("complex", "qwen2.5:1.5b", "localhost")
ENGLISH = "Write an authorization system with JWT, refresh tokens and rate limiting"
IMPATIENT = "server: {timeouts: {connect: 1, first_byte: 1}}\n"


def check_warning(running: Gateway, local: Simulator) -> None:
    """Check the document's fourth example literally."""
    answer = ask(running, SYSTEM)
    assert parse_route(answer) == LESSER
    body = answer.json()
    assert (body["success"], body["message"], body["warning"]) == (True, SIM_TEXT, WARNING)
    assert body["metadata"]["server_used"] == local.url
    assert body["metadata"]["fallback"] is True
    assert body["metadata"]["used_fast_model"] is True
    assert answer.headers["x-penstock-fallback"] == "true"
    running.wait_for_line("Distributed routing: qwen2.5:1.5b @ localhost (fallback: True)")


@pytest.fixture
def local(simulators: Simulators) -> Iterator[Simulator]:
    """The simulated laptop."""
    simulator = simulators.start(instant_ollama(*LOCAL))
    yield simulator
    simulators.stop(simulator)


def render_settings(local: Simulator, remote: str) -> str:
    return render_fleet_settings({"remote": (remote, "PRIMARY"), "localhost": (local.url, "SECONDARY")}, IMPATIENT)


def test_a_server_that_is_down_at_the_start_is_replaced_with_a_warning(local: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path, render_settings(local, f"http://127.0.0.1:{free_port()}")) as running:
        check_warning(running, local)
        assert "Discovery complete: 1/2 servers available, 3 unique models" in running.read_log()
        for path in SURFACES:
            assert parse_route(ask(running, SYSTEM, path)) == LESSER
        greeted = ask(running, GREETING)
        assert (parse_route(greeted).level, parse_route(greeted).server) == ("trivial", "localhost")
        assert "warning" not in greeted.json()  # it is what fits
        assert "warning" in ask(running, EXPLANATION).json()


def test_a_server_that_died_since_the_last_probe_is_replaced_with_a_warning(
    simulators: Simulators, local: Simulator, tmp_path: Path
) -> None:
    remote = simulators.start(instant_ollama(*REMOTE))
    with run_gateway_process(tmp_path, render_settings(local, remote.url)) as running:
        assert parse_route(ask(running, SYSTEM)).server == "remote"
        simulators.stop(remote)
        check_warning(running, local)
        for path in SURFACES:  # now it is known
            assert parse_route(ask(running, SYSTEM, path)) == LESSER
        wait_until(lambda: running.list_servers()["remote"]["state"] == "down", 10, "the gateway has not noticed")
        check_warning(running, local)


@pytest.mark.parametrize(
    "fault", ["hang_before", "reset", "cut", "garbage", "status_500", "status_503", "crash_before"]
)
def test_a_server_that_dies_during_the_call_is_replaced_with_a_warning(
    simulators: Simulators, local: Simulator, tmp_path: Path, fault: str
) -> None:
    options = instant_ollama(*REMOTE)
    dying = replace(options, faults=Faults.parse(f"{fault}=1,scope=generation"))
    remote = simulators.start(dying)
    with run_gateway_process(tmp_path, render_settings(local, remote.url)) as running:
        assert running.list_servers()["remote"]["state"] == "up"
        check_warning(running, local)
        for path in SURFACES:
            assert parse_route(ask(running, SYSTEM, path)) == LESSER
    simulators.stop(remote)


def test_the_warning_is_in_the_language_of_the_question(local: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path, render_settings(local, f"http://127.0.0.1:{free_port()}")) as running:
        assert ask(running, ENGLISH).json()["warning"] == "A simplified model is being used"
        assert ask(running, ENGLISH, "/chat").json()["warning"] == "A simplified model is being used"
        assert ask(running, SYSTEM, "/chat").json()["warning"] == WARNING


def test_a_named_model_that_is_unavailable_is_not_replaced(
    simulators: Simulators, local: Simulator, tmp_path: Path
) -> None:
    remote = simulators.start(instant_ollama(*REMOTE))
    with run_gateway_process(tmp_path, render_settings(local, remote.url)) as running:
        simulators.stop(remote)
        answer = ask(running, SYSTEM, model="qwen2.5-coder:14b")
        assert answer.status_code in (502, 503)
        assert answer.json()["success"] is False
        assert "remote" in answer.json()["error"]


def test_with_no_server_left_the_error_names_each_server(simulators: Simulators, tmp_path: Path) -> None:
    with run_distributed_gateway(simulators, tmp_path) as (running, servers):
        simulators.stop(servers.remote)
        simulators.stop(servers.local)
        wait_until(lambda: ask(running, SYSTEM).status_code == 503, 10, "no 503")
        body = ask(running, SYSTEM).json()
        assert body["success"] is False
        assert "remote" in body["error"]
        assert "localhost" in body["error"]


def test_a_server_that_recovers_is_used_again(simulators: Simulators, local: Simulator, tmp_path: Path) -> None:
    remote = simulators.start(instant_ollama(*REMOTE))
    with run_gateway_process(tmp_path, render_settings(local, remote.url)) as running:
        port = remote.port
        simulators.stop(remote)
        check_warning(running, local)
        again = simulators.start(replace(instant_ollama(*REMOTE), port=port))
        wait_until(
            lambda: parse_route(ask(running, SYSTEM)).server == "remote", 10, "it gets nothing though it is back"
        )
        simulators.stop(again)


def test_streams_have_no_warning_but_name_the_server(local: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path, render_settings(local, f"http://127.0.0.1:{free_port()}")) as running:
        for path in ("/v1/chat/completions", "/api/chat", "/v1/messages"):
            answer = ask(running, SYSTEM, path, stream=True)
            assert parse_route(answer) == LESSER
            assert answer.headers["x-penstock-fallback"] == "true"
        lines = ask(running, SYSTEM, "/api/chat", stream=True).text.splitlines()
        assert json.loads(lines[-1])["done"] is True


def test_all_examples_are_answered_by_the_laptop_alone(local: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path, render_settings(local, f"http://127.0.0.1:{free_port()}")) as running:
        for text, wanted in EXAMPLES.items():
            found = parse_route(ask(running, text))
            assert (found.level, found.server) == (wanted.level, "localhost")
