"""First runs: one server configured, none configured, or a configured server that is down."""

import contextlib
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from penstock.sim import SimOptions
from tests.support.gateway_process import ASK, Gateway, configured, eventually, gateway
from tests.support.isolation import UsualPorts
from tests.support.real_engines import SENTENCE, Running, free_port, llama_server
from tests.support.simulators import SAID, Simulators

MARK: Final = "[simulated]"
TAKEOVER: Final = 30.0  # seconds within which a real server takes the simulated ones' place


MESSAGES: Final = [{"role": "user", "content": ASK}]
BODIES: Final[dict[str, Any]] = {
    "/chat": {"message": ASK},
    "/v1/chat/completions": {"model": "tiny", "messages": MESSAGES, "stream": True},
    "/api/chat": {"model": "tiny", "messages": MESSAGES},
    "/v1/messages": {"model": "tiny", "messages": MESSAGES, "max_tokens": 10, "stream": True},
}


def texts(running: Gateway, model: str = "") -> dict[str, str]:
    """What each API says to ASK, by route; `model` may be left out where the API allows that."""
    said = {}
    message = [{"role": "user", "content": ASK}]
    said["/chat"] = running.post("/chat", {"message": ASK} | ({"model": model} if model else {})).json()["response"]
    asked = {"model": model or "auto", "messages": message, "max_tokens": 200, "stream": True}
    stream = running.stream("/v1/chat/completions", asked)
    deltas = [choice["delta"] for event in sse(stream) for choice in event["choices"]]
    said["/v1/chat/completions"] = "".join(delta.get("content") or "" for delta in deltas)
    assert stream.rstrip().endswith("data: [DONE]")
    lines = [json.loads(line) for line in running.stream("/api/chat", asked).splitlines()]
    said["/api/chat"] = "".join(line["message"]["content"] for line in lines)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    events = sse(running.stream("/v1/messages", asked))
    said["/v1/messages"] = "".join(event["delta"].get("text", "") for event in events if "delta" in event)
    assert events[-1] == {"type": "message_stop"}
    return said


def sse(text: str) -> list[Any]:
    """The objects in a stream of server-sent events."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and line[6] == "{"]


def response(running: Gateway) -> str:
    """What `/chat` says: the answer, or why there is none."""
    text: str = running.post("/chat", {"message": ASK}).json()["response"]
    return text


@pytest.mark.engine("llamacpp")
def test_one_llama_server_in_a_settings_file_answers_every_api_in_its_own_words(
    llama_a: Running, tmp_path: Path
) -> None:
    with gateway(tmp_path / "fresh", configured("llamacpp", llama_a.url)) as running:
        health = running.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "healthy")
        assert health.json()["services"]["llamacpp"]["status"] == "healthy"
        assert [model["name"] for model in running.get("/models").json()["models"]] == ["tiny"]
        assert set(texts(running).values()) == set(texts(running, "tiny").values()) == {SENTENCE}
        answer = running.post("/chat", {"message": ASK})
        assert "Привет, мир" in answer.text  # as it is, not as \u escapes
        assert answer.json()["metadata"]["provider"] == "llamacpp"
        assert MARK not in running.lines()


def test_without_configuration_and_servers_all_answers_are_marked_as_simulated(tmp_path: Path) -> None:
    with gateway(tmp_path / "fresh") as running:
        health = running.get("/health")
        assert health.status_code == 200
        assert "simulated" in health.text
        models = [model["name"] for model in running.get("/models").json()["models"]]
        assert {"gemma3:1b", "gemma3:12b", "qwen2.5-coder:14b"} <= set(models)
        said = texts(running, "gemma3:1b")
        assert {route: text[: len(MARK)] for route, text in said.items()} == dict.fromkeys(said, MARK)
        assert ASK in said["/chat"]
        assert running.post("/chat", {"message": ASK}).json()["metadata"]["simulated"] is True
        running.wait_for_line(MARK)


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
def test_a_llama_server_that_appears_at_its_usual_address_takes_over_for_good(
    usual_ports: UsualPorts, tmp_path: Path
) -> None:
    with gateway(tmp_path / "fresh") as running:
        assert response(running).startswith(MARK)
        with running.http as client, contextlib.ExitStack() as going:
            slow = {"model": "llama3.3:70b", "messages": [{"role": "user", "content": "Расскажи подробно"}]}
            stream = going.enter_context(client.stream("POST", "/api/chat", json=slow, timeout=60))
            lines = stream.iter_lines()
            first = json.loads(next(lines))
            with llama_server() as appeared:
                usual_ports.redirect(8080, appeared.port)
                eventually(lambda: response(running) == SENTENCE, TAKEOVER, "the llama-server has not taken over")
                assert set(texts(running).values()) == {SENTENCE}
                rest = [json.loads(line) for line in lines]
                assert first["message"]["content"].startswith(MARK)  # what had begun was said to its end
                assert rest[-1]["done_reason"] == "stop"
                assert list(running.servers()) == ["llamacpp"]
                assert "simulated" not in running.get("/health").text
        after = running.post("/chat", {"message": ASK})
        assert (after.status_code, after.json()["error"]["code"]) == (503, "no_server")
        assert MARK not in after.text
        eventually(lambda: running.get("/health").status_code == 503, 10, "nobody noticed that the server is gone")
        assert list(running.servers()) == ["llamacpp"]


def test_an_ollama_that_appears_at_its_usual_address_takes_over_for_good(
    usual_ports: UsualPorts, simulators: Simulators, tmp_path: Path
) -> None:
    with gateway(tmp_path / "fresh") as running:
        assert response(running).startswith(MARK)
        ollama = simulators.start(SimOptions.instant("ollama", "llama3.1:8b", text=SAID))
        usual_ports.redirect(11434, urlsplit(ollama.url).port or 0)
        try:
            eventually(lambda: response(running) == SAID, TAKEOVER, "the Ollama has not taken over")
            assert set(texts(running, "llama3.1:8b").values()) == {SAID}
            assert [server["kind"] for server in running.servers().values()] == ["ollama"]
        finally:
            simulators.stop(ollama)
        assert running.post("/chat", {"message": ASK}).status_code == 503
        eventually(lambda: running.get("/health").status_code == 503, 10, "nobody noticed that the Ollama is gone")
        assert list(running.servers()) == ["primary"]


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")
def test_a_missing_server_is_named_with_what_to_do_and_used_once_it_starts(
    tmp_path: Path,
) -> None:
    port = free_port()
    with gateway(tmp_path / "fresh", configured("llamacpp", f"http://127.0.0.1:{port}")) as running:
        health = running.get("/health")
        told = health.json()
        assert (health.status_code, told["status"]) == (503, "unhealthy")
        (problem,) = told["problems"]
        assert f"127.0.0.1:{port}" in json.dumps(problem)
        assert "penstock.yaml" in json.dumps(problem)
        assert problem["what_to_do"].startswith("Start it")
        assert told["message"]
        running.wait_for_line(f"127.0.0.1:{port}")
        for route, body in BODIES.items():
            answer = running.post(route, body)
            assert (answer.status_code, MARK in answer.text) == (503, False), route
            assert f"127.0.0.1:{port}" in answer.text, route
        with llama_server(port=port):
            eventually(lambda: running.get("/health").status_code == 200, TAKEOVER, "nobody noticed the llama-server")
            assert set(texts(running).values()) == {SENTENCE}


def test_a_demo_is_simulated_whatever_is_configured(tmp_path: Path) -> None:
    with gateway(tmp_path / "fresh", configured("llamacpp", "http://127.0.0.1:9"), command="demo") as running:
        assert response(running).startswith(MARK)
        assert set(running.servers()) == {"remote", "localhost"}


def test_the_root_serves_the_web_page_and_answers_ollamas_client(tmp_path: Path) -> None:
    with gateway(tmp_path / "fresh", configured("llamacpp", "http://127.0.0.1:9")) as running:
        assert running.get("/", accept="text/html").headers["content-type"].startswith("text/html")
        greeted = running.get("/", **{"user-agent": "ollama/0.13.3 (amd64 linux) Go/go1.26"})
        assert greeted.text == "Ollama is running"
