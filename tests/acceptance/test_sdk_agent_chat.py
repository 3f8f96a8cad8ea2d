"""Agent chat as a page uses it: Victoria first, then MLX, and never Ollama."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from penstock.sim import Faults, SimOptions, Simulator
from tests.support.gateway_process import ASK, Gateway, run_gateway_process
from tests.support.simulators import SIM_TEXT, Simulators

DOWN: Final = "http://127.0.0.1:9"
MODEL: Final = "mlx-community/Qwen2.5-7B-Instruct-4bit"


def settings(ollama: str, victoria: str, mlx: str) -> str:
    providers = f"ollama: {{base_url: '{ollama}'}}, victoria: {{url: '{victoria}'}}, mlx: {{url: '{mlx}'}}"
    return f"llm: {{providers: {{{providers}}}}}\n"


@pytest.fixture(scope="module")
def bystander(simulators: Simulators) -> Iterator[Simulator]:
    """An Ollama that is up but must get no call."""
    running = simulators.start(SimOptions.instant("ollama", "llama3.1:8b", text="I must not be asked"))
    yield running
    simulators.stop(running)


@pytest.fixture(scope="module")
def running(
    bystander: Simulator, sim_victoria: Simulator, sim_mlx: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("agent")
    with run_gateway_process(folder, settings(bystander.url, sim_victoria.url, sim_mlx.url)) as running:
        yield running


@pytest.fixture(scope="module")
def only_mlx(bystander: Simulator, sim_mlx: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose Victoria is unreachable."""
    with run_gateway_process(
        tmp_path_factory.mktemp("only mlx"), settings(bystander.url, DOWN, sim_mlx.url)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def only_ollama(bystander: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose only reachable server is Ollama."""
    with run_gateway_process(
        tmp_path_factory.mktemp("only ollama"), settings(bystander.url, DOWN, "http://127.0.0.1:10")
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def check_that_ollama_is_unused(bystander: Simulator) -> Iterator[None]:
    """Check that Ollama gets only probes, as every server does."""
    yield
    assert set(bystander.counters.requests) <= {"/api/tags", "/api/ps", "/api/version", "/api/show"}
    assert bystander.counters.started == 0


def parse_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a stream and their data."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_a_message_is_answered_by_victoria(running: Gateway) -> None:
    answer = running.post("/api/chat/send", {"content": ASK})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["content"], body["provider"]) == ("success", SIM_TEXT, "victoria")
    assert answer.headers["x-penstock-server"] == "victoria"


def test_a_stream_has_steps_then_the_answer_then_the_end(running: Gateway) -> None:
    events = parse_events(running.stream("/api/chat/stream", {"content": ASK}))
    kinds = [kind for kind, _ in events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert events[0][1]["provider"] == "victoria"
    steps = [data["step"] for kind, data in events if kind == "step"]
    assert {"Читаю цель", "Выбираю эксперта", "Пишу ответ"} <= set(steps)
    assert kinds.count("chunk") > 10
    assert "".join(data["content"] for kind, data in events if kind == "chunk") == SIM_TEXT
    assert events[-1][1]["status"] == "success"


def test_a_clarification_is_a_step(running: Gateway) -> None:
    events = parse_events(running.stream("/api/chat/stream", {"content": "[уточни] Сделай отчёт"}))
    assert "Что именно должно получиться?" in events[-2][1]["step"]
    response = running.post("/api/chat/send", {"content": "[уточни] Сделай отчёт"}).json()
    assert "Что именно должно получиться?" in response["steps"][-1]


def test_a_plan_comes_from_victoria(running: Gateway) -> None:
    answer = running.post("/api/chat/plan", {"content": ASK}).json()
    assert answer["plan"].splitlines() == ["1. Читаю цель", "2. Выбираю эксперта", "3. Пишу ответ"]


def test_without_victoria_mlx_answers(running: Gateway, sim_victoria: Simulator) -> None:
    before = sim_victoria.counters.started
    body = running.post("/api/chat/send", {"content": ASK, "use_victoria": False}).json()
    assert (body["content"], body["provider"], body["model"]) == (SIM_TEXT, "mlx", MODEL)
    streamed = parse_events(running.stream("/api/chat/stream", {"content": ASK, "use_victoria": False}))
    assert "".join(data["content"] for kind, data in streamed if kind == "chunk") == SIM_TEXT
    assert sim_victoria.counters.started == before


def test_mlx_replaces_an_unreachable_victoria(only_mlx: Gateway) -> None:
    body = only_mlx.post("/api/chat/send", {"content": ASK}).json()
    assert (body["content"], body["provider"], body["metadata"]["fallback"]) == (SIM_TEXT, "mlx", True)
    (_, start), *_ = parse_events(only_mlx.stream("/api/chat/stream", {"content": ASK}))
    assert (start["provider"], start["fallback"]) == ("mlx", True)


def test_mlx_replaces_a_victoria_that_fails_before_its_first_byte(
    simulators: Simulators, sim_mlx: Simulator, bystander: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = simulators.start(SimOptions.instant("victoria"))
    broken.faults = Faults(status_500=1, scope="generation")
    with run_gateway_process(
        tmp_path_factory.mktemp("broken"), settings(bystander.url, broken.url, sim_mlx.url)
    ) as running:
        body = running.post("/api/chat/send", {"content": ASK}).json()
        assert (body["content"], body["provider"]) == (SIM_TEXT, "mlx")
        streamed = parse_events(running.stream("/api/chat/stream", {"content": ASK}))
        assert "".join(data["content"] for kind, data in streamed if kind == "chunk") == SIM_TEXT
    simulators.stop(broken)


def test_status_and_models_list_only_the_chain(running: Gateway, only_mlx: Gateway) -> None:
    status = running.get("/api/chat/status").json()
    assert {name: link["status"] for name, link in status.items()} == {"victoria": "healthy", "mlx": "healthy"}
    away = only_mlx.get("/api/chat/status").json()["victoria"]
    assert (away["status"], away["url"]) == ("unhealthy", DOWN)
    assert away["what_to_do"]
    assert [model["name"] for model in running.get("/api/chat/models").json()["models"]] == [MODEL]


def test_with_only_ollama_up_the_response_is_503_with_a_message(only_ollama: Gateway) -> None:
    answer = only_ollama.post("/api/chat/send", {"content": ASK})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert DOWN in answer.json()["detail"]
    assert "ollama" not in answer.json()["detail"].lower()
    streamed = only_ollama.post("/api/chat/stream", {"content": ASK})
    assert streamed.status_code == 503
    assert [kind for kind, _ in parse_events(streamed.text)] == ["error", "end"]


def test_an_unknown_field_is_refused_with_the_nearest_name(running: Gateway) -> None:
    answer = running.post("/api/chat/send", {"content": ASK, "use_viktoria": False})
    assert answer.status_code == 400
    assert "use_victoria" in answer.json()["detail"]
