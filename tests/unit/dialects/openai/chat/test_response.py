"""Rendered chat responses in OpenAI's format, complete and streamed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.chat.endpoints import ChatEndpoint
from penstock.dialects.openai.chat.response import ChatRenderer
from penstock.domain.content import ToolCall
from penstock.domain.errors import UpstreamCut
from penstock.domain.provenance import Provenance
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage

BY = Provenance("r1", created=1_700_000_000.9, model="tiny:latest", requested="tiny")
CHAT = ChatEndpoint()


def make_renderer(stream: bool = True, usage: bool = False, functions: bool = False) -> ChatRenderer:
    fields: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    if usage:
        fields["stream_options"] = {"include_usage": True}
    if functions:
        fields["functions"] = [{"name": "f"}]
    return CHAT.create_renderer(CHAT.parse_request(msgspec.json.encode(fields), b""), BY)


def parse_events(data: bytes) -> list[Any]:
    assert data.endswith(b"\n\n")
    found = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        assert event.startswith("data: ")
        assert "\n" not in event
        found.append("[DONE]" if event == "data: [DONE]" else msgspec.json.decode(event.removeprefix("data: ")))
    return found


def render_stream(*chunks: Chunk, **flags: bool) -> list[Any]:
    rendered = make_renderer(**flags)
    return parse_events(b"".join(rendered.render_chunk(chunk) for chunk in chunks) + rendered.render_end())


def deltas(*chunks: Chunk, **flags: bool) -> list[dict[str, Any]]:
    return [event["choices"][0]["delta"] for event in render_stream(*chunks, **flags)[:-1] if event["choices"]]


def render_response(answer: ModelResponse, **flags: bool) -> Any:
    return msgspec.json.decode(make_renderer(stream=False, **flags).render_response(answer, BY))


def test_a_stream_has_role_text_finish_and_done() -> None:
    found = render_stream(Chunk("Hel"), Chunk("lo"), Chunk(finish="stop"))
    assert [event["choices"][0]["delta"] for event in found[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in found[:-1]] == [None, None, None, "stop"]
    assert found[-1] == "[DONE]"


def test_every_chunk_of_a_stream_has_the_same_name_and_time() -> None:
    found = render_stream(Chunk("a"), Chunk(thinking="b"), Chunk(finish="stop"))
    assert {(e["id"], e["object"], e["created"], e["model"]) for e in found[:-1]} == {
        ("chatcmpl-r1", "chat.completion.chunk", 1_700_000_000, "tiny")
    }


def test_the_content_type_says_how_the_answer_comes() -> None:
    assert make_renderer(stream=True).content_type == b"text/event-stream; charset=utf-8"
    assert make_renderer(stream=False).content_type == b"application/json"


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1, max_size=8))
def test_any_text_is_rendered_unchanged(texts: list[str]) -> None:
    found = deltas(*(Chunk(text) for text in texts), Chunk(finish="stop"))
    assert [delta["content"] for delta in found[1:-1]] == texts


@pytest.mark.parametrize("text", ["\n\n", "data: [DONE]", '"}', "\u2028", "\x00", "\r\n", "🙂", "</script>"])
def test_no_text_can_break_the_stream(text: str) -> None:
    assert deltas(Chunk("a"), Chunk(text), Chunk("b"))[2] == {"content": text}


def test_empty_chunks_render_nothing() -> None:
    rendered = make_renderer()
    rendered.render_chunk(Chunk("a"))
    assert rendered.render_chunk(Chunk()) == b""


def test_thinking_is_reasoning_content() -> None:
    assert deltas(Chunk(thinking="hm"), Chunk("a"))[1:3] == [{"reasoning_content": "hm"}, {"content": "a"}]


def test_an_agents_steps_are_rendered_as_thinking() -> None:
    assert deltas(Chunk(step="looking"), Chunk("a"))[1] == {"reasoning_content": "looking\n"}


def test_a_refusal_is_a_delta() -> None:
    assert deltas(Chunk(refusal="no"))[1] == {"refusal": "no"}


def test_tool_calls_come_in_fragments() -> None:
    found = deltas(
        Chunk(tool_calls=(ToolDelta(0, "c1", "f", ""),)),
        Chunk(tool_calls=(ToolDelta(0, arguments='{"a'),)),
        Chunk(tool_calls=(ToolDelta(0, arguments='": 1}'), ToolDelta(1, "c2", "g", "{}"))),
        Chunk(finish="tool_calls"),
    )
    assert found[1:] == [
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": '": 1}'}},
                {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]
        },
        {},
    ]


def test_a_tool_call_without_an_id_gets_one() -> None:
    found = deltas(Chunk(tool_calls=(ToolDelta(0, name="f"), ToolDelta(1, name="f"))))
    ids = [call["id"] for call in found[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(one.startswith("call_") for one in ids)
    calls = (ToolCall("", "f", "{}"), ToolCall("", "f", "{}"))
    assert [
        c["id"]
        for c in render_response(ModelResponse((Choice(tool_calls=calls),)))["choices"][0]["message"]["tool_calls"]
    ] == ids


@pytest.mark.parametrize(
    ("finish", "called", "rendered"),
    [
        ("stop", False, "stop"),
        ("length", False, "length"),
        ("content_filter", False, "content_filter"),
        ("load", False, "stop"),
        ("unload", False, "stop"),
        ("tool_calls", True, "tool_calls"),
        ("stop", True, "tool_calls"),
        ("length", True, "length"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_finish_reasons_are_openais(finish: str, called: bool, rendered: str, stream: bool) -> None:
    calls = (ToolDelta(0, "c", "f", "{}"),) if called else ()
    if stream:
        assert (
            render_stream(Chunk("a", tool_calls=calls), Chunk(finish=finish))[-2]["choices"][0]["finish_reason"]
            == rendered
        )
    else:
        choice = Choice("a", finish=finish, tool_calls=(ToolCall("c", "f", "{}"),) if called else ())
        assert render_response(ModelResponse((choice,)))["choices"][0]["finish_reason"] == rendered


def test_text_in_the_last_chunk_comes_before_the_finish() -> None:
    found = render_stream(Chunk("a"), Chunk("b", finish="length"))
    assert [event["choices"][0]["delta"] for event in found[2:-1]] == [{"content": "b"}, {}]
    assert found[-2]["choices"][0]["finish_reason"] == "length"


def test_an_unfinished_stream_is_finished() -> None:
    assert render_stream(Chunk("a"))[-2]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_without_a_chunk_is_still_a_response() -> None:
    assert deltas() == [{"role": "assistant", "content": ""}, {}]


def test_usage_comes_last_and_only_when_asked_for() -> None:
    usage = Usage(14, 3, cached_tokens=13, reasoning_tokens=2)
    chunks = (Chunk("a"), Chunk(finish="stop"), Chunk(usage=usage))
    assert all("usage" not in event for event in render_stream(*chunks)[:-1])
    found = render_stream(*chunks, usage=True)
    assert all(event["usage"] is None for event in found[:-2])
    assert found[-2]["choices"] == []
    assert found[-2]["usage"] == {
        "prompt_tokens": 14,
        "completion_tokens": 3,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 13},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert found[-1] == "[DONE]"


def test_usage_beside_text_is_rendered() -> None:
    assert render_stream(Chunk("a", usage=Usage(1, 2)), usage=True)[-2]["usage"]["total_tokens"] == 3


def test_unknown_usage_is_not_invented() -> None:
    assert render_stream(Chunk("a"), usage=True)[-2]["choices"] != []


def test_logprobs_are_rendered_in_a_stream_and_in_a_complete_response() -> None:
    logprobs = (Logprob("a", -0.5, (97,), (Logprob("a", -0.5, (97,)), Logprob("b", -1.5))),)
    rendered = {
        "content": [
            {
                "token": "a",
                "logprob": -0.5,
                "bytes": [97],
                "top_logprobs": [
                    {"token": "a", "logprob": -0.5, "bytes": [97]},
                    {"token": "b", "logprob": -1.5, "bytes": None},
                ],
            }
        ]
    }
    assert render_stream(Chunk("a", logprobs=logprobs))[1]["choices"][0]["logprobs"] == rendered
    assert render_response(ModelResponse((Choice("a", logprobs=logprobs),)))["choices"][0]["logprobs"] == rendered


def test_several_choices_have_a_role_and_a_finish_each() -> None:
    found = render_stream(
        Chunk("a"), Chunk("b", choice=1), Chunk("c"), Chunk(finish="stop"), Chunk(finish="length", choice=1)
    )
    roles = [e["choices"][0]["index"] for e in found[:-1] if "role" in e["choices"][0]["delta"]]
    assert roles == [0, 1]
    ends = {e["choices"][0]["index"]: e["choices"][0]["finish_reason"] for e in found[:-1]}
    assert ends == {0: "stop", 1: "length"}


def test_a_broken_stream_ends_with_the_error_and_without_done() -> None:
    rendered = make_renderer()
    data = rendered.render_chunk(Chunk("a")) + rendered.render_error(UpstreamCut("The engine went away."))
    last = parse_events(data)[-1]
    assert last == {
        "error": {"message": "The engine went away.", "type": "server_error", "param": None, "code": "upstream_error"}
    }


def test_the_old_form_of_functions_is_answered_in_the_old_form() -> None:
    found = deltas(
        Chunk(tool_calls=(ToolDelta(0, "c1", "f", ""),)),
        Chunk(tool_calls=(ToolDelta(0, arguments="{}"),)),
        functions=True,
    )
    assert found[1:3] == [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}]
    rendered = render_response(
        ModelResponse((Choice(tool_calls=(ToolCall("c", "f", "{}"),), finish="tool_calls"),)), functions=True
    )
    choice = rendered["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


def test_a_complete_response_has_all_fields_that_clients_read() -> None:
    rendered = render_response(ModelResponse((Choice("Hello", finish="stop"),), Usage(14, 3)))
    assert rendered == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 14,
            "completion_tokens": 3,
            "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(""), {"content": "", "refusal": None}),
        (Choice("a", thinking="b"), {"content": "a", "refusal": None, "reasoning_content": "b"}),
        (Choice(refusal="no"), {"content": None, "refusal": "no"}),
        (
            Choice(tool_calls=(ToolCall("c", "f", "{}"),)),
            {
                "content": None,
                "refusal": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        ),
    ],
)
def test_messages_are_rendered(choice: Choice, message: dict[str, Any]) -> None:
    assert render_response(ModelResponse((choice,)))["choices"][0]["message"] == {"role": "assistant"} | message


def test_the_engines_model_name_is_used_if_none_was_requested() -> None:
    rendered = CHAT.create_renderer(CHAT.parse_request(b'{"messages":[1]}', b""), Provenance("r", model="tiny:latest"))
    assert msgspec.json.decode(rendered.render_response(ModelResponse(), Provenance("r")))["model"] == "tiny:latest"


def test_unknown_usage_is_null() -> None:
    assert render_response(ModelResponse((Choice("a"),)))["usage"] is None
