"""First runs: one server configured, none configured, or a configured server that is down."""

import contextlib
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from penstock.sim import SimOptions
from tests.support.gateway_process import ASK, Gateway, render_settings, run_gateway_process, wait_until
from tests.support.isolation import UsualPorts
from tests.support.real_engines import SENTENCE, Running, free_port, llama_server
from tests.support.simulators import SIM_TEXT, Simulators

MARK: Final = "[simulated]"
TAKEOVER: Final = 30.0  # seconds within which a real server takes the simulated ones' place


MESSAGES: Final = [{"role": "user", "content": ASK}]
BODIES: Final[dict[str, Any]] = {
    "/chat": {"message": ASK},
    "/v1/chat/completions": {"model": "tiny", "messages": MESSAGES, "stream": True},
    "/api/chat": {"model": "tiny", "messages": MESSAGES},
    "/v1/messages": {"model": "tiny", "messages": MESSAGES, "max_tokens": 10, "stream": True},
}


def ask_every_api(running: Gateway, model: str = "") -> dict[str, str]:
    """Return the answer of each API to ASK, by route; `model` may be omitted where the API allows that."""
    found = {}
    message = [{"role": "user", "content": ASK}]
    found["/chat"] = running.post("/chat", {"message": ASK} | ({"model": model} if model else {})).json()["response"]
    asked = {"model": model or "auto", "messages": message, "max_tokens": 200, "stream": True}
    stream = running.stream("/v1/chat/completions", asked)
    deltas = [choice["delta"] for event in parse_events(stream) for choice in event["choices"]]
    found["/v1/chat/completions"] = "".join(delta.get("content") or "" for delta in deltas)
    assert stream.rstrip().endswith("data: [DONE]")
    lines = [json.loads(line) for line in running.stream("/api/chat", asked).splitlines()]
    found["/api/chat"] = "".join(line["message"]["content"] for line in lines)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    events = parse_events(running.stream("/v1/messages", asked))
    found["/v1/messages"] = "".join(event["delta"].get("text", "") for event in events if "delta" in event)
    assert events[-1] == {"type": "message_stop"}
    return found


def parse_events(text: str) -> list[Any]:
    """Return the objects in a stream of server-sent events."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and line[6] == "{"]


def ask_chat(running: Gateway) -> str:
    """Return the text of `/chat`: the answer, or the reason why there is none."""
    text: str = running.post("/chat", {"message": ASK}).json()["response"]
    return text


@pytest.mark.engine("llamacpp")
def test_one_llama_server_in_a_settings_file_answers_every_api_in_its_own_words(
    llama_a: Running, tmp_path: Path
) -> None:
    with run_gateway_process(tmp_path / "fresh", render_settings("llamacpp", llama_a.url)) as running:
        health = running.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "healthy")
        assert health.json()["services"]["llamacpp"]["status"] == "healthy"
        assert [model["name"] for model in running.get("/models").json()["models"]] == ["tiny"]
        assert set(ask_every_api(running).values()) == set(ask_every_api(running, "tiny").values()) == {SENTENCE}
        answer = running.post("/chat", {"message": ASK})
        assert "Привет, мир" in answer.text  # as it is, not as \u escapes
        assert answer.json()["metadata"]["provider"] == "llamacpp"
        assert MARK not in running.read_log()


def test_without_configuration_and_servers_all_answers_are_marked_as_simulated(tmp_path: Path) -> None:
    with run_gateway_process(tmp_path / "fresh") as running:
        health = running.get("/health")
        assert health.status_code == 200
        assert "simulated" in health.text
        models = [model["name"] for model in running.get("/models").json()["models"]]
        assert {"gemma3:1b", "gemma3:12b", "qwen2.5-coder:14b"} <= set(models)
        found = ask_every_api(running, "gemma3:1b")
        assert {route: text[: len(MARK)] for route, text in found.items()} == dict.fromkeys(found, MARK)
        assert ASK in found["/chat"]
        assert running.post("/chat", {"message": ASK}).json()["metadata"]["simulated"] is True
        running.wait_for_line(MARK)


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
def test_a_llama_server_that_appears_at_its_usual_address_takes_over_for_good(
    usual_ports: UsualPorts, tmp_path: Path
) -> None:
    with run_gateway_process(tmp_path / "fresh") as running:
        assert ask_chat(running).startswith(MARK)
        with running.http as client, contextlib.ExitStack() as going:
            slow = {"model": "llama3.3:70b", "messages": [{"role": "user", "content": "Расскажи подробно"}]}
            stream = going.enter_context(client.stream("POST", "/api/chat", json=slow, timeout=60))
            lines = stream.iter_lines()
            first = json.loads(next(lines))
            with llama_server() as appeared:
                usual_ports.redirect(8080, appeared.port)
                wait_until(lambda: ask_chat(running) == SENTENCE, TAKEOVER, "the llama-server has not taken over")
                assert set(ask_every_api(running).values()) == {SENTENCE}
                rest = [json.loads(line) for line in lines]
                assert first["message"]["content"].startswith(MARK)  # the running stream completes
                assert rest[-1]["done_reason"] == "stop"
                assert list(running.list_servers()) == ["llamacpp"]
                assert "simulated" not in running.get("/health").text
        after = running.post("/chat", {"message": ASK})
        assert (after.status_code, after.json()["error"]["code"]) == (503, "no_server")
        assert MARK not in after.text
        wait_until(
            lambda: running.get("/health").status_code == 503, 10, "the gateway has not noticed that the server is gone"
        )
        assert list(running.list_servers()) == ["llamacpp"]


def test_an_ollama_that_appears_at_its_usual_address_takes_over_for_good(
    usual_ports: UsualPorts, simulators: Simulators, tmp_path: Path
) -> None:
    with run_gateway_process(tmp_path / "fresh") as running:
        assert ask_chat(running).startswith(MARK)
        ollama = simulators.start(SimOptions.instant("ollama", "llama3.1:8b", text=SIM_TEXT))
        usual_ports.redirect(11434, urlsplit(ollama.url).port or 0)
        try:
            wait_until(lambda: ask_chat(running) == SIM_TEXT, TAKEOVER, "the Ollama has not taken over")
            assert set(ask_every_api(running, "llama3.1:8b").values()) == {SIM_TEXT}
            assert [server["kind"] for server in running.list_servers().values()] == ["ollama"]
        finally:
            simulators.stop(ollama)
        assert running.post("/chat", {"message": ASK}).status_code == 503
        wait_until(
            lambda: running.get("/health").status_code == 503, 10, "the gateway has not noticed that the Ollama is gone"
        )
        assert list(running.list_servers()) == ["primary"]


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")
def test_a_missing_server_is_named_with_what_to_do_and_used_once_it_starts(
    tmp_path: Path,
) -> None:
    port = free_port()
    with run_gateway_process(tmp_path / "fresh", render_settings("llamacpp", f"http://127.0.0.1:{port}")) as running:
        health = running.get("/health")
        report = health.json()
        assert (health.status_code, report["status"]) == (503, "unhealthy")
        (problem,) = report["problems"]
        assert f"127.0.0.1:{port}" in json.dumps(problem)
        assert "penstock.yaml" in json.dumps(problem)
        assert problem["what_to_do"].startswith("Start it")
        assert report["message"]
        running.wait_for_line(f"127.0.0.1:{port}")
        for route, body in BODIES.items():
            answer = running.post(route, body)
            assert (answer.status_code, MARK in answer.text) == (503, False), route
            assert f"127.0.0.1:{port}" in answer.text, route
        with llama_server(port=port):
            wait_until(
                lambda: running.get("/health").status_code == 200,
                TAKEOVER,
                "the gateway has not noticed the llama-server",
            )
            assert set(ask_every_api(running).values()) == {SENTENCE}


def test_a_demo_is_simulated_whatever_is_configured(tmp_path: Path) -> None:
    with run_gateway_process(
        tmp_path / "fresh", render_settings("llamacpp", "http://127.0.0.1:9"), command="demo"
    ) as running:
        assert ask_chat(running).startswith(MARK)
        assert set(running.list_servers()) == {"remote", "localhost"}


def test_the_root_serves_the_web_page_and_answers_ollamas_client(tmp_path: Path) -> None:
    with run_gateway_process(tmp_path / "fresh", render_settings("llamacpp", "http://127.0.0.1:9")) as running:
        assert running.get("/", accept="text/html").headers["content-type"].startswith("text/html")
        greeted = running.get("/", **{"user-agent": "ollama/0.13.3 (amd64 linux) Go/go1.26"})
        assert greeted.text == "Ollama is running"
