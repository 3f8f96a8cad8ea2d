"""Every real engine that other tests use starts, lists its model and generates exactly the expected text."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import real_engines
from tests.support.real_engines import ENDLESS, SENTENCE, TOOL_ARGUMENTS, TOOL_NAME, Running, llama_server

ASK = [{"role": "user", "content": "Привет! Как дела?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.engine(name)) for name in ("llama_a", "llama_b", "mlx", "vllm")]
)
def engine(request: pytest.FixtureRequest) -> Running:
    running: Running = request.getfixturevalue(request.param)
    return running


def ask(engine: Running, path: str, body: object = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
    try:
        payload = None if body is None else msgspec.json.encode(body)
        connection.request("GET" if body is None else "POST", path, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content
    finally:
        connection.close()


def chat(engine: Running, **fields: object) -> Any:
    return msgspec.json.decode(ask(engine, "/v1/chat/completions", {"model": engine.model, "messages": ASK, **fields}))


def events(content: bytes) -> Iterator[Any]:
    for line in content.splitlines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield msgspec.json.decode(line.removeprefix(b"data: "))


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_lists_its_model(engine: Running) -> None:
    listed = msgspec.json.decode(ask(engine, "/v1/models"))
    assert engine.model in [model["id"] for model in listed["data"]]


def test_generates_the_sentence_and_stops(engine: Running) -> None:
    choice = chat(engine)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (SENTENCE, "stop")


def test_generates_the_same_at_a_high_temperature(engine: Running) -> None:
    assert chat(engine, temperature=1.0)["choices"][0]["message"]["content"] == SENTENCE


def test_streams_the_sentence_in_many_pieces(engine: Running) -> None:
    content = ask(engine, "/v1/chat/completions", {"model": engine.model, "messages": ASK, "stream": True})
    pieces = [choice["delta"].get("content") or "" for event in events(content) for choice in event["choices"]]
    assert "".join(pieces) == SENTENCE
    assert len([piece for piece in pieces if piece]) > 20
    assert content.rstrip().endswith(b"data: [DONE]")


def test_calls_the_tool_it_is_given(engine: Running) -> None:
    choice = chat(engine, tools=[WEATHER])["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == TOOL_NAME
    assert msgspec.json.decode(call["function"]["arguments"]) == TOOL_ARGUMENTS
    assert choice["finish_reason"] == "tool_calls"


def test_responds_after_the_tools_result(engine: Running) -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": TOOL_NAME, "arguments": '{"city": "Paris"}'}}
    messages = [
        *ASK,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
    ]
    assert chat(engine, messages=messages, tools=[WEATHER])["choices"][0]["message"]["content"] == SENTENCE


@pytest.mark.engine("llamacpp")
def test_continues_when_the_end_of_text_is_ignored(llama_a: Running) -> None:
    answer = chat(llama_a, **{**ENDLESS, "max_tokens": 200})
    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (200, "length")


@pytest.mark.engine("llamacpp")
def test_embeds(llama_embeddings: Running) -> None:
    body = {"model": llama_embeddings.model, "input": ["one text", "другой текст"]}
    answer = msgspec.json.decode(ask(llama_embeddings, "/v1/embeddings", body))
    one, other = (row["embedding"] for row in answer["data"])
    assert len(one) == len(other) == 128
    assert one != other


@pytest.mark.engine("llamacpp")
def test_two_servers_of_one_model_have_addresses_of_their_own(llama_a: Running, llama_b: Running) -> None:
    assert llama_a.port != llama_b.port
    assert llama_a.model == llama_b.model


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
def test_a_killed_server_can_come_back_at_its_address() -> None:
    with llama_server() as first:
        first.process.kill()
        first.process.wait()
        with llama_server(port=first.port) as second:
            assert second.url == first.url
            assert chat(second)["choices"][0]["message"]["content"] == SENTENCE


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
def test_a_server_dies_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal\nfrom tests.support.real_engines import llama_server\n"
        "with llama_server() as engine:\n    print(engine.port, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    checkout = Path(__file__).parents[2]
    started = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, check=False)
    port = int(started.stdout)
    deadline = time.monotonic() + 10
    while listens(port) and time.monotonic() < deadline:
        pass
    assert not listens(port)


def test_an_engine_that_cannot_be_installed_is_skipped_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_SKIP_VLLM", "1")
    installer = Path(__file__).parents[2] / "scripts" / "model_servers" / "install.py"
    run = subprocess.run(
        [sys.executable, installer, "vllm", "--dir", tmp_path, "--cache", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "skipped: vllm: PENSTOCK_TEST_SKIP_VLLM=1\n")
    assert (tmp_path / "vllm.reason").read_text("utf-8") == "PENSTOCK_TEST_SKIP_VLLM=1\n"


def test_a_missing_engine_is_reported_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_engines, "ENGINES", tmp_path)
    (tmp_path / "mlx.reason").write_text("no wheel for this machine\n", "utf-8")
    with pytest.raises(real_engines.NotInstalledError, match=r"mlx: no wheel for this machine; .*install\.py mlx"):
        real_engines.load_receipt("mlx")


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
def test_a_server_that_does_not_start_shows_its_log() -> None:
    failed = pytest.raises(RuntimeError, match=r"(?s)llamacpp ended with status .*no-such-option")
    with failed, llama_server(extra=["--no-such-option"]):
        pytest.fail("it started")
