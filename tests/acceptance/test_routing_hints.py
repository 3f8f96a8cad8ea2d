"""Routing hints of a caller in headers: its maximum wait and the session that it continues."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.sim import SimModel, SimOptions, Simulator
from tests.acceptance.distributed import (
    EXPLANATION,
    GREETING,
    LOCAL,
    SIM_TEXT,
    SURFACES,
    SYSTEM,
    WARNING,
    Fleet,
    Route,
    build_bodies,
    build_messages,
    instant_ollama,
    parse_route,
    render_fleet_settings,
    run_distributed_gateway,
)
from tests.support.gateway_process import Gateway, run_gateway_process, wait_until
from tests.support.simulators import Simulators

WAIT = "x-penstock-max-wait"


def ask_within(
    running: Gateway, text: str, seconds: float | str, path: str = "/api/v1/chat", **more: Any
) -> httpx.Response:
    """Send a text whose answer must start within so many seconds."""
    return running.post(path, build_bodies(text)[path] | more, **{WAIT: str(seconds)})


@pytest.fixture
def cold(simulators: Simulators, tmp_path: Path) -> Iterator[tuple[Gateway, Fleet]]:
    """Run servers with no model loaded and load times unknown.

    Estimates by size are at least 5 s on the big machine and 1 to 3 s on the laptop.
    """
    with run_distributed_gateway(simulators, tmp_path) as both:
        yield both


def check_rejection(answer: httpx.Response) -> str:
    """Check that a call was rejected because of its maximum wait; return the message."""
    assert answer.status_code == 429, answer.text
    assert float(answer.headers["retry-after"]) >= 1
    assert "wait_too_long" in answer.text or "x-penstock-max-wait" in answer.text
    return answer.text


def test_a_short_max_wait_gets_a_lesser_model_with_a_warning(cold: tuple[Gateway, Fleet]) -> None:
    running, _ = cold
    answer = ask_within(running, EXPLANATION, 4)
    found = parse_route(answer)
    assert (found.level, found.server) == ("moderate", "localhost")
    assert answer.json()["warning"] == WARNING
    assert answer.json()["metadata"]["fallback"] is True
    assert answer.headers["x-penstock-fallback"] == "true"


def test_a_long_max_wait_gets_the_fitting_model(cold: tuple[Gateway, Fleet]) -> None:
    running, _ = cold
    answer = ask_within(running, EXPLANATION, 60)
    assert parse_route(answer) == Route("moderate", "gemma3:12b", "remote")
    assert "warning" not in answer.json()
    again = ask_within(running, EXPLANATION, 4)  # it is in memory now
    assert parse_route(again) == Route("moderate", "gemma3:12b", "remote")
    assert "warning" not in again.json()


@pytest.mark.parametrize("path", SURFACES)
def test_a_call_that_cannot_start_in_time_is_rejected_in_every_api(cold: tuple[Gateway, Fleet], path: str) -> None:
    running, servers = cold
    assert "Send the request again later" in check_rejection(ask_within(running, SYSTEM, 0, path))
    for server in (servers.remote, servers.local):
        assert not {"/api/chat", "/api/generate", "/v1/chat/completions"} & set(server.counters.requests)


def test_a_named_model_is_not_replaced_but_the_error_names_another(cold: tuple[Gateway, Fleet]) -> None:
    running, _ = cold
    message = check_rejection(ask_within(running, EXPLANATION, 4, model="llama3.3:70b"))
    assert "on localhost could start in" in message
    assert any(model in message for model in LOCAL)
    assert "4 s (x-penstock-max-wait)" in message
    body = ask_within(running, EXPLANATION, 4, model="llama3.3:70b").json()
    assert (body["success"], body["code"]) == (False, "wait_too_long")
    assert body["retry_after"] > 1
    assert parse_route(ask_within(running, EXPLANATION, 600, model="llama3.3:70b")) == Route(
        "", "llama3.3:70b", "remote"
    )


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan", "inf", "1e400", "10s", ""])
@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions", "/api/chat", "/v1/messages", "/chat"])
def test_an_invalid_max_wait_is_rejected(pair: tuple[Gateway, Fleet], path: str, wrong: str) -> None:
    answer = ask_within(pair[0], GREETING, wrong, path)
    assert answer.status_code == 400
    assert WAIT in answer.text


@pytest.mark.parametrize("good", ["20", "0.5", "1e2", "100000000"])
def test_max_wait_may_be_any_number_of_seconds(pair: tuple[Gateway, Fleet], good: str) -> None:
    running, _ = pair
    parse_route(running.post("/chat", {"message": GREETING}))  # in memory from now on
    assert parse_route(ask_within(running, GREETING, good)).server == "localhost"


@pytest.fixture(scope="module")
def pair(simulators: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Fleet]]:
    with run_distributed_gateway(simulators, tmp_path_factory.mktemp("wishes")) as both:
        yield both


@contextlib.contextmanager
def run_stream(running: Gateway, twins: Mapping[str, Simulator], asked: dict[str, Any]) -> Iterator[None]:
    """Run a stream from one of these models until the end of the block."""
    over = threading.Event()

    def read() -> None:
        with running.http as client, client.stream("POST", "/api/chat", json=asked) as answer:
            for _ in answer.iter_raw():
                if over.is_set():
                    return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_until(lambda: any(twin.running for twin in twins.values()), 10, "the stream has not started")
        yield
    finally:
        over.set()
        thread.join(10)


LONG = "слово " * 2000


def test_time_in_a_queue_counts_as_waiting(simulators: Simulators, tmp_path: Path) -> None:
    slow = SimModel.from_name("gemma3:12b", tokens_per_second=20, prefill_tokens_per_second=1e6)
    big = simulators.start(SimOptions(models=(slow,), slots=1, load_seconds=0, text=LONG))
    small = simulators.start(instant_ollama(*LOCAL))
    urls = {"remote": (big.url, "PRIMARY"), "localhost": (small.url, "SECONDARY")}
    settings = render_fleet_settings(urls).replace("priority: PRIMARY}", "priority: PRIMARY, max_concurrent: 1}")
    with run_gateway_process(tmp_path, settings) as running:
        body = {
            "model": "gemma3:12b",
            "messages": build_messages("Привет"),
            "stream": False,
            "options": {"num_predict": 40},
        }
        assert running.post("/api/chat", body).status_code == 200  # in memory, and it is known to take two seconds
        assert parse_route(ask_within(running, GREETING, 60)).server == "localhost"  # in memory too
        wait_until(lambda: big.running == 0, 10, "it has not ended")
        assert parse_route(ask_within(running, EXPLANATION, 1, "/chat", max_tokens=5)).server == "remote"
        with run_stream(running, {"remote": big}, {"model": "gemma3:12b", "messages": build_messages("Расскажи")}):
            answer = ask_within(running, EXPLANATION, 1, "/chat", max_tokens=5)
            assert parse_route(answer).server == "localhost"
            assert answer.json()["warning"] == WARNING
            assert "localhost" in check_rejection(ask_within(running, EXPLANATION, 1, model="gemma3:12b"))
    simulators.stop(big)
    simulators.stop(small)


def test_a_session_continues_on_the_server_with_its_prompt(simulators: Simulators, tmp_path: Path) -> None:
    slow = SimModel.from_name("llama3.3:70b", tokens_per_second=20)
    options = replace(instant_ollama("gemma3:12b", slots=1), models=(SimModel.from_name("gemma3:12b"), slow), text=LONG)
    twins = {f"gpu{number}": simulators.start(options) for number in range(2)}
    asked = {"model": "gemma3:12b", "messages": build_messages("Расскажи о море. " * 40), "max_tokens": 20}
    for twin in twins.values():
        httpx.post(f"{twin.url}/v1/chat/completions", json=asked, trust_env=False).raise_for_status()  # in memory
    settings = render_fleet_settings({name: (twin.url, "PRIMARY") for name, twin in twins.items()})
    settings = settings.replace("priority: PRIMARY}", "priority: PRIMARY, max_concurrent: 1}")
    with run_gateway_process(tmp_path, settings) as running:

        def ask_as(session: str, path: str = "/v1/chat/completions") -> str:
            return parse_route(running.post(path, asked, **{"x-session-id": session})).server

        with run_stream(running, twins, {"model": "llama3.3:70b", "messages": build_messages("Расскажи")}):
            first = next(name for name, twin in twins.items() if twin.running)
            other = ask_as("bob")
            assert other != first  # which has no slot
        wait_until(lambda: not twins[first].running, 10, "it still streams")
        for _ in range(3):
            assert ask_as("bob") == ask_as("bob", "/v1/messages") == other
        body = running.post("/api/route", asked, **{"x-session-id": "bob"}).json()
        assert body["server"] == other
        words = {
            one["server"]: next(each["text"] for each in one["reasons"] if each["signal"] == "affinity")
            for one in body["candidates"]
        }
        assert words == {other: "answered this conversation before", first: "new to this conversation"}
        simulators.stop(twins.pop(other))
        assert ask_as("bob") == first  # its home is no prison
    simulators.stop(twins[first])


def test_a_session_id_may_be_any_text(pair: tuple[Gateway, Fleet]) -> None:
    for session in ("a" * 5000, "with spaces; and = signs", "", "0"):
        answer = pair[0].post("/api/v1/chat", {"message": GREETING}, **{"x-session-id": session})
        assert answer.json()["message"] == SIM_TEXT
