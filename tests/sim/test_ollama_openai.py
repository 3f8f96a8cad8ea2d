"""Ollama's `/v1`, asked by hand and by OpenAI's own client."""

from typing import Any

import openai
import pytest

from penstock.sim import Faults, Simulator
from tests.sim.client import ask
from tests.sim.conftest import EMBEDDER, PLAIN, SKILLED, THINKER
from tests.support.transcripts import parse_events

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}}


async def chat(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/v1/chat/completions", {"model": PLAIN, "messages": HI, **body})


async def test_a_stream_says_the_role_once_and_ends_with_a_finish_and_done(ollama: Simulator) -> None:
    answer = await chat(ollama, stream=True)
    assert answer.header("content-type") == "text/event-stream"
    *chunks, finish, done = parse_events(answer.body)
    assert done == "[DONE]"
    assert ["role" in chunk["choices"][0]["delta"] for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert not any("usage" in chunk for chunk in chunks)
    assert len({chunk["created"] for chunk in chunks}) == 1


async def test_usage_comes_in_an_extra_chunk_when_wanted(ollama: Simulator) -> None:
    *chunks, usage, done = parse_events((await chat(ollama, stream=True, stream_options={"include_usage": True})).body)
    assert (usage["choices"], done) == ([], "[DONE]")
    assert list(usage["usage"]) == ["prompt_tokens", "completion_tokens", "total_tokens"]
    assert usage["usage"]["completion_tokens"] == len(chunks) - 1


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"model": "nope"}, 404, "not_found_error", "model 'nope' not found"),
        ({"messages": []}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        ({"reasoning_effort": "wild"}, 400, "invalid_request_error", "invalid reasoning value: 'wild'"),
        (
            {"tools": [TOOL]},
            400,
            "invalid_request_error",
            "registry.ollama.ai/library/gemma3:1b does not support tools",
        ),
    ],
)
async def test_errors_have_openai_s_form(
    ollama: Simulator, body: dict[str, Any], status: int, kind: str, words: str
) -> None:
    answer = await chat(ollama, **body)
    assert answer.status == status
    error = answer.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"].startswith(words)
    assert (error["type"], error["param"], error["code"]) == (kind, None, None)
    assert answer.body.endswith(b"\n")


async def test_an_empty_body_is_eof(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "POST", "/v1/chat/completions")
    assert (answer.status, answer.json["error"]["message"]) == (400, "EOF")


async def test_models_are_listed_with_tags_and_found_by_name(ollama: Simulator) -> None:
    models = (await ask(ollama.url, "GET", "/v1/models")).json["data"]
    assert [model["id"] for model in models][:2] == [PLAIN, f"{SKILLED}:latest"]
    assert {model["owned_by"] for model in models} == {"library"}
    one = await ask(ollama.url, "GET", f"/v1/models/{PLAIN}")
    assert one.json["id"] == PLAIN
    missing = await ask(ollama.url, "GET", "/v1/models/nope")
    assert (missing.status, missing.json["error"]["message"]) == (404, "model 'nope:latest' not found")
    deep = await ask(ollama.url, "GET", "/v1/models/user/m")
    assert (deep.status, deep.body) == (404, b"404 page not found")


async def test_thoughts_are_reasoning_and_can_be_switched_off(ollama: Simulator) -> None:
    thought = (await chat(ollama, model=THINKER)).json["choices"][0]["message"]
    silent = (await chat(ollama, model=THINKER, reasoning_effort="none")).json["choices"][0]["message"]
    assert thought["reasoning"]
    assert "reasoning" not in silent


async def test_answers_carry_the_model_as_sent_and_ollama_s_fingerprint(ollama: Simulator) -> None:
    answer = (await chat(ollama, model="GEMMA3:1b")).json
    assert (answer["model"], answer["system_fingerprint"]) == ("GEMMA3:1b", "fp_ollama")
    assert list(answer["choices"][0]) == ["index", "message", "finish_reason"]


async def test_a_failure_in_mid_stream_is_lost_in_an_empty_chunk(ollama: Simulator) -> None:
    ollama.faults = Faults(crash_middle=1)
    told = parse_events((await chat(ollama, stream=True)).body)
    assert told[-1]["model"] == ""
    assert told[-1]["choices"][0]["finish_reason"] is None
    ollama.faults = Faults(crash_before=1)
    assert (await chat(ollama, stream=True)).status == 500


async def test_completions_stream_usage_of_zeros_until_the_end(ollama: Simulator) -> None:
    body = {"model": PLAIN, "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, _ = parse_events((await ask(ollama.url, "POST", "/v1/completions", body)).body)
    assert all(chunk["usage"]["total_tokens"] == 0 for chunk in chunks)
    assert usage["usage"]["total_tokens"] > 0
    empty = await ask(ollama.url, "POST", "/v1/completions", {"model": PLAIN, "prompt": ""})
    assert empty.json["choices"][0]["finish_reason"] == "load"


async def test_openai_s_client_chats_calls_tools_and_embeds(ollama: Simulator) -> None:
    async with openai.AsyncOpenAI(base_url=f"{ollama.url}/v1", api_key="any", max_retries=0) as api:
        said = await api.chat.completions.create(model=PLAIN, messages=[{"role": "user", "content": "hello"}])
        assert "hello" in str(said.choices[0].message.content)
        called: Any = await api.chat.completions.create(model=SKILLED, messages=HI, tools=[TOOL])  # type: ignore[call-overload]
        assert called.choices[0].finish_reason == "tool_calls"
        assert called.choices[0].message.tool_calls[0].function.arguments == '{"a":0}'
        vectors = await api.embeddings.create(model=EMBEDDER, input=["a", "b"])
        assert [len(row.embedding) for row in vectors.data] == [768, 768]
        with pytest.raises(openai.BadRequestError, match="invalid input"):
            await api.embeddings.create(model=EMBEDDER, input=[])
