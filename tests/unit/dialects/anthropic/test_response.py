"""Rendered messages of Anthropic: complete, streamed, interrupted; parsed again here and by the official client."""

import json
from dataclasses import replace
from typing import Any, get_args

import anthropic
import pytest
from anthropic.types import Message as OfficialMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.anthropic import DIALECT
from penstock.domain.content import ToolCall
from penstock.domain.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    LlmDisabled,
    MethodNotAllowed,
    ModelNotFound,
    NoServer,
    PenstockError,
    RateLimited,
    Unauthorized,
    UpstreamCut,
    UpstreamStatus,
    UpstreamTimeout,
)
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response
from tests.unit.dialects.chunk_streams import BY, no_deadline, parse_events, render_stream, serve_bytes, streams, usages

MESSAGES, COUNT = DIALECT.endpoints
CALL = Call("anthropic.messages", Operation.CHAT, "llama3.1", True, b"{}")
QUIET = Call("anthropic.messages", Operation.CHAT, "llama3.1", True, b"{}", flags=frozenset({"hide_thinking"}))
FINISHES = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
EVENTS = {
    event.model_fields["type"].annotation.__args__[0]: event for event in get_args(get_args(RawMessageStreamEvent)[0])
}


def _usage(parsed: dict[str, Any]) -> Usage:
    cached = parsed["cache_read_input_tokens"]
    thought = parsed.get("output_tokens_details", {}).get("thinking_tokens", 0)
    return Usage(parsed["input_tokens"] + cached, parsed["output_tokens"], cached, thought)


def _answer(blocks: list[dict[str, Any]], end: dict[str, Any], usage: dict[str, Any]) -> ModelResponse:
    thoughts = [block for block in blocks if block["type"] == "thinking"]
    choice = Choice(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thinking="".join(block["thinking"] for block in thoughts),
        tool_calls=tuple(ToolCall(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"),
        finish=FINISHES[end["stop_reason"]],
        refusal=(end["stop_details"] or {}).get("explanation") or "",
        thinking_signature="".join(block["signature"] for block in thoughts),
    )
    return ModelResponse((choice,), _usage(usage))


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "input_json_delta", "partial_json": text}:
            block["pieces"].append(text)


def read_back(stream: bytes) -> ModelResponse:
    """Return the response that a stream contains; fail if its events are out of order."""
    parsed = parse_events(stream)
    for event in parsed:
        EVENTS[event["type"]].model_validate(event)
    assert [event["type"] for event in parsed if event["type"].startswith("message_")] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert parsed[0]["type"] == "message_start"
    assert [event["type"] for event in parsed[-2:]] == ["message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    opened: set[int] = set()
    for event in parsed[1:-2]:
        at = event["index"]
        match event["type"]:
            case "content_block_start":
                assert at == len(blocks)
                opened.add(at)
                blocks.append(event["content_block"] | {"pieces": []})
            case "content_block_delta":
                assert at in opened
                _add(blocks[at], event["delta"])
            case "content_block_stop":
                opened.remove(at)
    assert not opened
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = "".join(block["pieces"])
    return _answer(blocks, parsed[-2]["delta"], parsed[-2]["usage"])


def remove_unsupported(answer: ModelResponse) -> ModelResponse:
    """Return the response of the chunks without what this wire cannot express."""
    choice = answer.choices[0]
    finish = "content_filter" if choice.refusal else choice.finish
    return ModelResponse(
        (
            Choice(
                choice.text,
                choice.thinking,
                choice.tool_calls,
                finish,
                refusal=choice.refusal,
                thinking_signature=choice.thinking_signature,
            ),
        ),
        answer.usage,
    )


@no_deadline
@given(streams())
def test_a_stream_contains_the_engines_response(chunks: list[Chunk]) -> None:
    assert read_back(render_stream(MESSAGES.create_renderer(CALL, BY), chunks)) == remove_unsupported(
        assemble_response(chunks)
    )


@no_deadline
@given(streams())
def test_a_complete_message_equals_its_stream(chunks: list[Chunk]) -> None:
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(assemble_response(chunks), BY))
    OfficialMessage.model_validate(message)
    for block in message["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.dumps(block["input"], ensure_ascii=False)
    assert _answer(message["content"], message, message["usage"]) == remove_unsupported(assemble_response(chunks))


@no_deadline
@given(streams())
def test_thinking_that_was_not_requested_is_not_rendered(chunks: list[Chunk]) -> None:
    parsed = read_back(render_stream(MESSAGES.create_renderer(QUIET, BY), chunks))
    message = json.loads(MESSAGES.create_renderer(QUIET, BY).render_response(assemble_response(chunks), BY))
    assert parsed.choices[0].text == assemble_response(chunks).choices[0].text
    assert parsed.choices[0].thinking == ""
    assert all(block["type"] != "thinking" for block in message["content"])


@no_deadline
@given(streams(), st.integers(0, 20))
def test_a_stream_that_breaks_ends_with_an_error_event(chunks: list[Chunk], at: int) -> None:
    writer = MESSAGES.create_renderer(CALL, BY)
    stream = b"".join(writer.render_chunk(chunk) for chunk in chunks[:at]) + writer.render_error(
        UpstreamCut("it broke")
    )
    assert parse_events(stream)[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "it broke"},
        "request_id": "abc123",
    }
    assert not MESSAGES.is_complete(stream)


@no_deadline
@given(streams())
def test_the_end_and_the_usage_of_a_rendered_stream_are_found_in_its_tail(chunks: list[Chunk]) -> None:
    stream = render_stream(MESSAGES.create_renderer(CALL, BY), chunks)
    parsed = assemble_response(chunks).usage
    assert parsed is not None
    found = MESSAGES.parse_usage(stream[-4096:], True)
    assert MESSAGES.is_complete(stream[-4096:])
    assert found == Usage(parsed.prompt_tokens, parsed.completion_tokens, parsed.cached_tokens)
    assert not MESSAGES.is_complete(stream[: -len(b'age_stop"}\n\n')])


@no_deadline
@given(usages())
def test_the_usage_of_a_complete_message_is_found_in_its_tail(usage: Usage) -> None:
    answer = ModelResponse((Choice('"usage": {"input_tokens": 7}' * 300, finish="stop"),), usage)
    found = MESSAGES.parse_usage(MESSAGES.create_renderer(CALL, BY).render_response(answer, BY)[-4096:], False)
    assert found == Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


@pytest.mark.parametrize(
    "tail", [b"", b"garbage", b'"usage":{"input_tok', b'"usage":null', b'"usage":{"input_tokens":"x"}']
)
def test_no_usage_is_found_where_none_is_reported(tail: bytes) -> None:
    assert MESSAGES.parse_usage(tail, True) is None


def test_a_padded_last_event_ends_a_stream() -> None:
    assert MESSAGES.is_complete(b'event: message_stop\ndata: {"type": "message_stop"   }\r\n\r\n')


@pytest.mark.parametrize(
    ("chunk", "reason", "sequence"),
    [
        (Chunk(text="a", finish="stop"), "end_turn", None),
        (Chunk(text="a", finish="length"), "max_tokens", None),
        (Chunk(text="a", finish="stop", stop_sequence="END"), "stop_sequence", "END"),
        (Chunk(text="a", finish="content_filter"), "refusal", None),
        (Chunk(tool_calls=(ToolDelta(0, "c", "f", "{}"),), finish="tool_calls"), "tool_use", None),
        (Chunk(tool_calls=(ToolDelta(0, "c", "f", "{}"),), finish="stop"), "tool_use", None),
        (Chunk(tool_calls=(ToolDelta(0, "c", "f", '{"a'),), finish="length"), "max_tokens", None),
        (Chunk(finish="load"), "end_turn", None),
        (Chunk(text="a"), "end_turn", None),
    ],
)
def test_finish_reasons_are_anthropics(chunk: Chunk, reason: str, sequence: str | None) -> None:
    end = parse_events(render_stream(MESSAGES.create_renderer(CALL, BY), [chunk]))[-2]["delta"]
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(assemble_response([chunk]), BY))
    assert (end["stop_reason"], end["stop_sequence"]) == (reason, sequence)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_an_empty_response_is_an_empty_message() -> None:
    assert read_back(render_stream(MESSAGES.create_renderer(CALL, BY), [])) == ModelResponse(
        (Choice(finish="stop"),), Usage()
    )
    assert json.loads(MESSAGES.create_renderer(CALL, BY).render_response(ModelResponse(), BY))["content"] == []


def test_a_message_names_the_model_that_was_asked_and_the_request() -> None:
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(ModelResponse((Choice("Привет"),)), BY))
    assert (message["id"], message["model"], message["role"]) == ("msg_abc123", "llama3.1", "assistant")


def test_a_streamed_call_is_answered_with_events_and_another_with_json() -> None:
    assert MESSAGES.create_renderer(CALL, BY).content_type == b"text/event-stream; charset=utf-8"
    assert MESSAGES.create_renderer(replace(CALL, stream=False), BY).content_type == b"application/json"


def test_russian_text_is_not_escaped() -> None:
    assert "Привет".encode() in render_stream(MESSAGES.create_renderer(CALL, BY), [Chunk(text="Привет")])


def test_a_call_without_an_id_gets_one() -> None:
    chunks = [Chunk(tool_calls=(ToolDelta(0, "", "f", "{}"), ToolDelta(1, "", "g", "{}")))]
    ids = [
        call.id for call in read_back(render_stream(MESSAGES.create_renderer(CALL, BY), chunks)).choices[0].tool_calls
    ]
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(assemble_response(chunks), BY))
    assert ids == ["toolu_abc123_0", "toolu_abc123_1"]
    assert [block["id"] for block in message["content"]] == ids


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ("", {}),
        ("null", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": "[1]"}),
    ],
)
def test_arguments_that_are_not_an_object_still_make_a_valid_message(arguments: str, input_: dict[str, Any]) -> None:
    answer = ModelResponse((Choice(tool_calls=(ToolCall("c", "f", arguments),), finish="tool_calls"),))
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(answer, BY))
    assert message["content"][0]["input"] == input_


def test_a_call_is_closed_as_soon_as_the_next_starts() -> None:
    writer = MESSAGES.create_renderer(CALL, BY)
    writer.render_chunk(Chunk(tool_calls=(ToolDelta(0, "a", "f", '{"x":1}'),)))
    parsed = parse_events(writer.render_chunk(Chunk(tool_calls=(ToolDelta(1, "b", "g", "{}"),))))
    assert [(event["type"], event["index"]) for event in parsed] == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
    ]


def test_an_agents_steps_are_rendered_as_thinking() -> None:
    chunks = [Chunk(step="looking"), Chunk(step="writing"), Chunk(text="done", finish="stop")]
    parsed = read_back(render_stream(MESSAGES.create_renderer(CALL, BY), chunks)).choices[0]
    message = json.loads(MESSAGES.create_renderer(CALL, BY).render_response(assemble_response(chunks), BY))
    assert (parsed.thinking, parsed.text) == ("looking\nwriting\n", "done")
    assert [block.get("thinking") for block in message["content"]] == ["looking\nwriting\n", None]


def test_only_the_first_choice_is_rendered() -> None:
    chunks = [Chunk(text="a"), Chunk(text="b", choice=1), Chunk(finish="stop"), Chunk(finish="length", choice=1)]
    assert read_back(render_stream(MESSAGES.create_renderer(CALL, BY), chunks)).choices[0] == Choice("a", finish="stop")


def test_log_probabilities_do_not_disturb_the_text() -> None:
    chunks = [Chunk(text="a", logprobs=(Logprob("a", -1.0),)), Chunk(text="b", logprobs=(Logprob("b", -1.0),))]
    assert read_back(render_stream(MESSAGES.create_renderer(CALL, BY), chunks)).choices[0].text == "ab"


def test_counting_answers_with_the_prompts_tokens() -> None:
    writer = COUNT.create_renderer(CALL, BY)
    assert json.loads(writer.render_response(ModelResponse(usage=Usage(prompt_tokens=42)), BY)) == {"input_tokens": 42}
    assert writer.content_type == b"application/json"
    assert writer.render_chunk(Chunk(text="x")) + writer.render_end() == b""
    assert parse_events(writer.render_error(UpstreamCut("it broke")))[0]["error"]["message"] == "it broke"
    assert COUNT.parse_usage(b'{"input_tokens":42}', False) is None


def test_a_passed_through_stream_that_breaks_is_ended_on_a_fresh_line() -> None:
    cut_off = b'event: content_block_delta\ndata: {"type":"content_blo'
    assert (
        parse_events((cut_off + MESSAGES.render_interruption(UpstreamCut("it broke"))).split(b"\n\n", 1)[1])[0]["type"]
        == "error"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("no"), "invalid_request_error"),
        (Unauthorized("no"), "authentication_error"),
        (Forbidden("no"), "permission_error"),
        (ModelNotFound("no"), "not_found_error"),
        (MethodNotAllowed("no", allow=("POST",)), "invalid_request_error"),
        (BodyTooLarge("no"), "request_too_large"),
        (RateLimited("no"), "rate_limit_error"),
        (NoServer("no"), "overloaded_error"),
        (LlmDisabled("no"), "api_error"),
        (UpstreamTimeout("no"), "timeout_error"),
        (UpstreamCut("no"), "api_error"),
        (UpstreamStatus("no", status=422), "invalid_request_error"),
        (UpstreamStatus("no", status=529), "overloaded_error"),
        (PenstockError("no"), "api_error"),
    ],
)
def test_errors_have_anthropics_types(error: PenstockError, kind: str) -> None:
    assert json.loads(DIALECT.render_error(error, "abc123")) == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
        "request_id": "abc123",
    }


STORY = [
    Chunk(thinking="Let me see. "),
    Chunk(thinking="Rain?", thinking_signature="sig"),
    Chunk(text="Сейчас "),
    Chunk(text="посмотрю."),
    Chunk(tool_calls=(ToolDelta(0, "toolu_1", "get_weather", '{"city":'),)),
    Chunk(tool_calls=(ToolDelta(0, arguments=' "Paris"}'),)),
    Chunk(tool_calls=(ToolDelta(1, "toolu_2", "get_time", "{}"),), finish="tool_calls"),
    Chunk(usage=Usage(20, 7, 5)),
]


async def test_the_official_client_accumulates_a_stream() -> None:
    async with (
        serve_bytes(200, b"text/event-stream", render_stream(MESSAGES.create_renderer(CALL, BY), STORY)) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}]) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    thinking, answer, weather, time = message.content
    assert (thinking.thinking, thinking.signature) == ("Let me see. Rain?", "sig")
    assert answer.text == text == "Сейчас посмотрю."
    assert (weather.id, weather.name, weather.input) == ("toolu_1", "get_weather", {"city": "Paris"})
    assert (time.id, time.name, time.input) == ("toolu_2", "get_time", {})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (15, 7)
    assert message.usage.cache_read_input_tokens == 5


async def test_the_official_client_reads_a_complete_message() -> None:
    body = MESSAGES.create_renderer(CALL, BY).render_response(assemble_response(STORY), BY)
    async with (
        serve_bytes(200, b"application/json", body) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        message = await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}])
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.content[2].input == {"city": "Paris"}


async def test_the_official_client_raises_the_error_that_a_stream_ends_with() -> None:
    writer = MESSAGES.create_renderer(CALL, BY)
    body = writer.render_chunk(Chunk(text="a")) + writer.render_error(NoServer("all are down"))
    async with (
        serve_bytes(200, b"text/event-stream", body) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match="all are down"):
            async with client.messages.stream(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}]
            ) as stream:
                await stream.get_final_message()


async def test_the_official_client_raises_the_class_of_an_error_response() -> None:
    async with (
        serve_bytes(404, DIALECT.media_type, DIALECT.render_error(ModelNotFound("no such model"), "abc123")) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.NotFoundError, match="no such model"):
            await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}])
