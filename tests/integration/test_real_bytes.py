"""The gateway changes no byte if client and engine speak the same API."""

import re
from typing import Final

import httpx
import msgspec
import pytest

from tests.support.gateway_process import ASK, render_settings, run_gateway_process
from tests.support.real_engines import SENTENCE, Running

MESSAGES: Final = [{"role": "user", "content": ASK}]
ENGINES: Final = [
    pytest.param(fixture, kind, marks=pytest.mark.engine(engine))
    for fixture, kind, engine in (
        ("llama_a", "llamacpp", "llamacpp"),
        ("mlx", "openai", "mlx"),
        ("vllm", "vllm", "vllm"),
    )
]
# What differs from one call to the next by nature: ids, times, and what a cache has kept.
VARYING: Final = re.compile(
    rb'"(id|created|timings|request_id|cached_tokens|cache_n|system_fingerprint)": ?("[^"]*"|\{[^}]*\}|[\d.]+)'
    rb"|: keepalive[^\n]*\n\n"
)


def parse_stream(stream: bytes) -> list[object]:
    """Return a stream's text, finish reasons and usage."""
    events = [msgspec.json.decode(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    text = "".join(choice.get("delta", choice).get("content") or choice.get("text", "") for choice in choices)
    return [text, [c["finish_reason"] for c in choices if c["finish_reason"]], events[-1].get("usage"), stream[-16:]]


@pytest.mark.parametrize(("fixture", "kind"), ENGINES)
def test_the_engines_response_arrives_byte_for_byte(
    request: pytest.FixtureRequest, fixture: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine: Running = request.getfixturevalue(fixture)
    folder = tmp_path_factory.mktemp("bytes")
    chat = {"model": engine.model, "messages": MESSAGES, "temperature": 0, "max_tokens": 200}
    streamed = {**chat, "stream": True, "stream_options": {"include_usage": True}}
    prompt = {"model": engine.model, "prompt": ASK, "temperature": 0, "max_tokens": 20}
    with (
        run_gateway_process(folder, render_settings(kind, engine.url)) as running,
        httpx.Client(timeout=60, trust_env=False) as client,
    ):
        for path, body in (
            ("/v1/chat/completions", chat),
            ("/v1/chat/completions", streamed),
            ("/v1/completions", prompt),
            ("/v1/completions", {**prompt, "stream": True}),
        ):
            direct = client.post(engine.url + path, json=body)
            through = client.post(running.url + path, json=body)
            if kind == "vllm" and body.get("stream"):
                assert parse_stream(through.content) == parse_stream(
                    direct.content
                )  # how it groups tokens depends on its load
            else:
                assert VARYING.sub(b"", through.content) == VARYING.sub(b"", direct.content), path
            assert len(through.content) > 100
            assert through.headers["content-type"] == direct.headers["content-type"]
            assert through.headers["x-penstock-model"] == engine.model


@pytest.mark.engine("llamacpp")
def test_a_field_that_only_llama_cpp_knows_reaches_it(
    llama_a: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "stream": True, "timings_per_token": True, "n_probs": 2}
    with run_gateway_process(tmp_path_factory.mktemp("unknown"), render_settings("llamacpp", llama_a.url)) as running:
        plain = running.stream("/v1/chat/completions", body)
        assert plain.count('"timings"') > 20
        assert plain.count('"top_logprobs"') > 20
        grammar = {"model": "tiny", "messages": MESSAGES, "grammar": 'root ::= "мир" | "世界"', "max_tokens": 20}
        answer = running.post("/v1/chat/completions", grammar).json()
        assert answer["choices"][0]["message"]["content"] in ("мир", "世界")


@pytest.mark.engine("vllm")
def test_a_field_that_only_vllm_knows_reaches_it(vllm: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "return_token_ids": True, "max_tokens": 4, "temperature": 0}
    with run_gateway_process(tmp_path_factory.mktemp("unknown"), render_settings("vllm", vllm.url)) as running:
        answer = running.post("/v1/chat/completions", body).json()
        assert len(answer["choices"][0]["token_ids"]) == 4


@pytest.mark.engine("vllm")
def test_an_alias_becomes_the_engines_own_name_and_nothing_else_changes(
    vllm: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = render_settings("vllm", vllm.url) + 'models: {aliases: {"llama3.1:8b": ["tiny"]}}\n'
    with run_gateway_process(tmp_path_factory.mktemp("alias"), settings) as running:
        for name in ("llama3.1:8b", "tiny", "Tiny:latest"):
            answer = running.post("/v1/chat/completions", {"model": name, "messages": MESSAGES, "max_tokens": 200})
            assert answer.json()["choices"][0]["message"]["content"] == SENTENCE, name
            assert answer.headers["x-penstock-model"] == "tiny"
