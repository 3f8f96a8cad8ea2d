"""Rendered responses of the Responses API: complete, streamed, interrupted; parsed again here and by the client."""

import json
from typing import Any, get_args

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent

from penstock.dialects.openai_responses import DIALECT
from penstock.domain.content import ToolCall
from penstock.domain.errors import InvalidRequest, NoServer, PenstockError, RateLimited, UpstreamCut
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response
from tests.unit.dialects.chunk_streams import BY, no_deadline, parse_events, render_stream, serve_bytes, streams, usages

(RESPONSES,) = DIALECT.endpoints
REQUEST: dict[str, Any] = {"model": "llama3.1", "input": "Привет", "stream": True}
EVENTS = {
    event.model_fields["type"].annotation.__args__[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])
}
TEXTS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
}


def make_call(**members: Any) -> Call:
    body = json.dumps(REQUEST | members).encode()
    return RESPONSES.parse_request(body, b"application/json")


CALL = make_call()
SUMMARY = make_call(reasoning={"effort": "low", "summary": "auto"})


def _logprobs(parsed: list[dict[str, Any]]) -> tuple[Logprob, ...]:
    return tuple(
        Logprob(one["token"], one["logprob"], tuple(one["bytes"]), _logprobs(one.get("top_logprobs", [])))
        for one in parsed
    )


def _usage(parsed: dict[str, Any]) -> Usage:
    assert parsed["total_tokens"] == parsed["input_tokens"] + parsed["output_tokens"]
    return Usage(
        parsed["input_tokens"],
        parsed["output_tokens"],
        parsed["input_tokens_details"]["cached_tokens"],
        parsed["output_tokens_details"]["reasoning_tokens"],
    )


def _answer(response: dict[str, Any]) -> ModelResponse:
    """Return the response that a response object contains."""
    Response.model_validate(response)
    items = response["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    calls = [item for item in items if item["type"] == "function_call"]
    reasoning = [item for item in items if item["type"] == "reasoning"]
    reason = (response["incomplete_details"] or {}).get("reason")
    choice = Choice(
        text="".join(part["text"] for part in parts if part["type"] == "output_text"),
        thinking="".join(part["text"] for item in reasoning for part in item["content"] + item["summary"]),
        tool_calls=tuple(ToolCall(item["call_id"], item["name"], item["arguments"]) for item in calls),
        finish={"max_output_tokens": "length", "content_filter": "content_filter"}.get(reason, "stop"),
        logprobs=_logprobs([one for part in parts for one in part.get("logprobs", [])]),
        refusal="".join(part["refusal"] for part in parts if part["type"] == "refusal"),
        thinking_signature="".join(item["encrypted_content"] or "" for item in reasoning),
    )
    assert response["status"] == ("incomplete" if reason else "completed")
    return ModelResponse((choice,), _usage(response["usage"]) if response["usage"] else None)


def read_back(stream: bytes) -> ModelResponse:
    """Return the response in a stream's last event; fail if the earlier events differ from it."""
    parsed = parse_events(stream)
    for at, event in enumerate(parsed):
        assert event["sequence_number"] == at
        EVENTS[event["type"]].model_validate(event)
    assert [event["type"] for event in parsed[:2]] == ["response.created", "response.in_progress"]
    items: list[dict[str, Any]] = []
    text_by_item: dict[int, str] = {}
    for event in parsed[2:-1]:
        at = event["output_index"]
        kind, _, what = event["type"].rpartition(".")
        if event["type"] == "response.output_item.added":
            assert at == len(items)
            items.append(event["item"])
            text_by_item[at] = ""
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == items[at]["id"]
            items[at] = event["item"]
        elif what == "delta":
            assert event["item_id"] == items[at]["id"]
            text_by_item[at] += event["delta"]
        elif kind in TEXTS:
            assert event[TEXTS[kind]] == text_by_item[at]
    assert parsed[-1]["response"]["output"] == items
    return _answer(parsed[-1]["response"])


def assemble_supported(chunks: list[Chunk], *, logprobs: bool = True) -> ModelResponse:
    """Return the response of the chunks without what this wire cannot express."""
    answer = assemble_response(chunks)
    choice = answer.choices[0]
    return ModelResponse(
        (
            Choice(
                choice.text,
                choice.thinking,
                choice.tool_calls,
                "stop" if choice.finish == "tool_calls" else choice.finish,
                choice.logprobs if logprobs else (),
                choice.refusal,
                thinking_signature=choice.thinking_signature,
            ),
        ),
        answer.usage,
    )


@no_deadline
@given(streams(), st.sampled_from([CALL, SUMMARY]))
def test_a_stream_contains_the_engines_response(chunks: list[Chunk], call: Call) -> None:
    assert read_back(render_stream(RESPONSES.create_renderer(call, BY), chunks)) == assemble_supported(chunks)


@no_deadline
@given(streams(logprobs=True))
def test_a_stream_contains_log_probabilities(chunks: list[Chunk]) -> None:
    assert read_back(render_stream(RESPONSES.create_renderer(CALL, BY), chunks)) == assemble_supported(chunks)


@no_deadline
@given(streams(logprobs=True), st.sampled_from([CALL, SUMMARY]))
def test_a_complete_response_equals_its_stream(chunks: list[Chunk], call: Call) -> None:
    assert _answer(
        json.loads(RESPONSES.create_renderer(call, BY).render_response(assemble_response(chunks), BY))
    ) == assemble_supported(chunks)


@no_deadline
@given(streams(), st.integers(0, 20))
def test_a_stream_that_breaks_ends_with_an_error_and_its_partial_output(chunks: list[Chunk], at: int) -> None:
    writer = RESPONSES.create_renderer(CALL, BY)
    stream = b"".join(writer.render_chunk(chunk) for chunk in chunks[:at]) + writer.render_error(
        UpstreamCut("it broke")
    )
    parsed = parse_events(stream)
    assert [event["sequence_number"] for event in parsed] == list(range(len(parsed)))
    assert [event["type"] for event in parsed[:2]] == ["response.created", "response.in_progress"]
    error, failed = parsed[-2:]
    EVENTS["error"].model_validate(error)
    Response.model_validate(failed["response"])
    assert (error["type"], error["code"], error["message"]) == ("error", "upstream_error", "it broke")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "it broke"}
    text = "".join(chunk.text for chunk in chunks[:at])
    messages = [item for item in failed["response"]["output"] if item["type"] == "message"]
    assert "".join(part.get("text", "") for item in messages for part in item["content"]) == text


@no_deadline
@given(streams())
def test_the_end_and_the_usage_of_a_rendered_stream_are_found_in_its_tail(chunks: list[Chunk]) -> None:
    stream = render_stream(RESPONSES.create_renderer(CALL, BY), chunks)
    assert RESPONSES.parse_usage(stream[-4096:], True) == assemble_response(chunks).usage
    assert RESPONSES.is_complete(stream[-4096:])
    assert not RESPONSES.is_complete(stream[:-2])
    assert not RESPONSES.is_complete(stream.rpartition(b"event: ")[0])


@no_deadline
@given(usages())
def test_the_end_is_found_even_if_the_last_event_is_longer_than_the_tail(usage: Usage) -> None:
    chunks = [Chunk(text='"usage":{"input_tokens":1}' * 500), Chunk(finish="stop", usage=usage)]
    stream = render_stream(RESPONSES.create_renderer(CALL, BY), chunks)
    assert b"event:" not in stream[-4096:]
    assert RESPONSES.is_complete(stream[-4096:])
    assert RESPONSES.parse_usage(stream[-4096:], True) == usage
    assert not RESPONSES.is_complete(stream.rpartition(b"event: ")[0][-4096:])


@pytest.mark.parametrize(
    "tail", [b"", b"garbage", b'"usage":{"input_tok', b'"usage":null', b'"usage":{"input_tokens":"x"}']
)
def test_no_usage_is_found_where_none_is_reported(tail: bytes) -> None:
    assert RESPONSES.parse_usage(tail, True) is None
    assert not RESPONSES.is_complete(tail)


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_finish_reasons_are_openais(finish: str, status: str, reason: dict[str, str] | None) -> None:
    chunks = [Chunk(text="a", finish=finish)]
    last = parse_events(render_stream(RESPONSES.create_renderer(CALL, BY), chunks))[-1]
    complete = json.loads(RESPONSES.create_renderer(CALL, BY).render_response(assemble_response(chunks), BY))
    assert last["type"] == f"response.{status}"
    for response in (last["response"], complete):
        assert (response["status"], response["incomplete_details"]) == (status, reason)
        assert response["output"][0]["status"] == status


def test_a_streamed_call_is_answered_with_events_and_another_with_json() -> None:
    assert RESPONSES.create_renderer(CALL, BY).content_type == b"text/event-stream; charset=utf-8"
    assert RESPONSES.create_renderer(make_call(stream=False), BY).content_type == b"application/json"


def test_reasoning_is_rendered_if_it_was_requested() -> None:
    chunks = [Chunk(thinking="hm"), Chunk(text="a", finish="stop")]
    plain = parse_events(render_stream(RESPONSES.create_renderer(CALL, BY), chunks))[-1]["response"]["output"][0]
    summary = parse_events(render_stream(RESPONSES.create_renderer(SUMMARY, BY), chunks))[-1]["response"]["output"][0]
    assert (plain["content"], plain["summary"]) == ([{"type": "reasoning_text", "text": "hm"}], [])
    assert (summary["content"], summary["summary"]) == ([], [{"type": "summary_text", "text": "hm"}])


def test_a_response_repeats_its_request() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]
    given_ = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"a": "ж"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": None},
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": tools,
        "top_logprobs": 2,
        "top_p": 0.9,
        "truncation": "auto",
        "user": "anna",
    }
    response = json.loads(
        RESPONSES.create_renderer(make_call(**given_, store=True), BY).render_response(
            ModelResponse((Choice("a"),)), BY
        )
    )
    assert {name: response[name] for name in given_} == given_
    assert (response["store"], response["background"], response["previous_response_id"]) == (False, False, None)
    assert (response["id"], response["model"], response["created_at"]) == ("resp_abc123", "llama3.1", 1_700_000_000)


def test_a_response_has_defaults_for_missing_fields() -> None:
    response = json.loads(
        RESPONSES.create_renderer(make_call(text={"format": None}, tools=None, metadata=None), BY).render_response(
            ModelResponse(), BY
        )
    )
    assert (response["tools"], response["tool_choice"], response["metadata"]) == ([], "auto", {})
    assert (response["text"], response["truncation"]) == ({"format": {"type": "text"}}, "disabled")
    assert (response["parallel_tool_calls"], response["output"], response["usage"]) == (True, [], None)


def test_a_complete_response_has_the_time_of_its_completion() -> None:
    end = Provenance("abc123", created=1000.0, total_seconds=5.5)
    response = json.loads(
        RESPONSES.create_renderer(CALL, BY).render_response(ModelResponse((Choice("a", finish="stop"),)), end)
    )
    assert response["completed_at"] == 1_700_000_005


def test_a_call_without_an_id_gets_one() -> None:
    chunks = [Chunk(tool_calls=(ToolDelta(0, "", "f", "{}"),))]
    calls = parse_events(render_stream(RESPONSES.create_renderer(CALL, BY), chunks))[-1]["response"]["output"]
    response = json.loads(RESPONSES.create_renderer(CALL, BY).render_response(assemble_response(chunks), BY))
    assert calls == response["output"]
    assert calls[0]["call_id"] == "call_abc123_0"


def test_a_request_that_the_renderer_cannot_read_is_the_callers_error() -> None:
    with pytest.raises(InvalidRequest) as raised:
        RESPONSES.create_renderer(make_call(metadata=5), BY)
    assert raised.value.param == "metadata"


def test_a_passed_through_stream_that_breaks_is_ended_on_a_fresh_line() -> None:
    cut_off = b'event: response.output_text.delta\ndata: {"type":"resp'
    parsed = parse_events((cut_off + RESPONSES.render_interruption(UpstreamCut("it broke"))).split(b"\n\n", 1)[1])[0]
    EVENTS["error"].model_validate(parsed)
    assert parsed["message"] == "it broke"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("no"), "rate_limit_exceeded"),
        (InvalidRequest("no"), "invalid_prompt"),
        (NoServer("no"), "server_error"),
    ],
)
def test_a_failed_response_has_one_of_openais_codes(error: PenstockError, code: str) -> None:
    parsed = parse_events(RESPONSES.create_renderer(CALL, BY).render_error(error))
    assert parsed[-1]["response"]["error"] == {"code": code, "message": "no"}
    assert parsed[-2]["code"] == error.code


def test_errors_are_rendered_in_openais_format() -> None:
    error = json.loads(DIALECT.render_error(InvalidRequest("no", param="input"), "abc123"))["error"]
    assert error == {"message": "no", "type": "invalid_request_error", "param": "input", "code": "invalid_request"}


STORY = [
    Chunk(thinking="Let me see. "),
    Chunk(text="Сейчас "),
    Chunk(text="посмотрю."),
    Chunk(tool_calls=(ToolDelta(0, "call_1", "get_weather", '{"city":'),)),
    Chunk(tool_calls=(ToolDelta(0, arguments=' "Paris"}'),)),
    Chunk(tool_calls=(ToolDelta(1, "call_2", "get_time", "{}"),), finish="tool_calls"),
    Chunk(usage=Usage(20, 7, 5)),
]


async def test_the_official_client_accumulates_a_stream() -> None:
    async with (
        serve_bytes(200, b"text/event-stream", render_stream(RESPONSES.create_renderer(CALL, BY), STORY)) as url,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client,
        client.responses.stream(model="m", input="?") as stream,
    ):
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        response = await stream.get_final_response()
    reasoning, message, weather, time = response.output
    assert reasoning.content[0].text == "Let me see. "
    assert message.content[0].text == text == response.output_text == "Сейчас посмотрю."
    assert (weather.call_id, weather.name, weather.arguments) == ("call_1", "get_weather", '{"city": "Paris"}')
    assert (time.call_id, time.name, time.arguments) == ("call_2", "get_time", "{}")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (20, 7)
    assert response.status == "completed"


async def test_the_official_client_reads_a_complete_response() -> None:
    async with (
        serve_bytes(
            200, b"application/json", RESPONSES.create_renderer(CALL, BY).render_response(assemble_response(STORY), BY)
        ) as url,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client,
    ):
        response = await client.responses.create(model="m", input="?")
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    assert response.output_text == "Сейчас посмотрю."


async def test_the_official_client_sees_that_a_stream_failed() -> None:
    writer = RESPONSES.create_renderer(CALL, BY)
    body = writer.render_chunk(Chunk(text="a")) + writer.render_error(NoServer("all are down"))
    async with (
        serve_bytes(200, b"text/event-stream", body) as url,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client,
    ):
        parsed = [event async for event in await client.responses.create(model="m", input="?", stream=True)]
    assert (parsed[-2].type, parsed[-2].message) == ("error", "all are down")
    assert (parsed[-1].type, parsed[-1].response.error.message) == ("response.failed", "all are down")
