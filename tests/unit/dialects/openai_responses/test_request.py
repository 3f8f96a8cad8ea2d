"""Decoding of Responses API requests: every documented form, and the errors for invalid ones."""

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai_responses import DIALECT
from penstock.domain.content import (
    Audio,
    Chat,
    File,
    Format,
    Image,
    Message,
    Part,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Operation
from tests.unit.dialects.chunk_streams import no_deadline, serve_bytes

(RESPONSES,) = DIALECT.endpoints
FUNCTION = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}


def encode_request(**members: Any) -> bytes:
    """Encode a request's body; a member that is `...` is left out."""
    body = {"model": "m", "input": "Привет"} | members
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def decode(**members: Any) -> Chat:
    chat = RESPONSES.decode_content(RESPONSES.parse_request(encode_request(**members), b"application/json"))
    assert isinstance(chat, Chat)
    return chat


def items(*given_: dict[str, Any]) -> tuple[Message, ...]:
    return decode(input=list(given_)).messages


def test_parsing_returns_what_routing_needs() -> None:
    call = RESPONSES.parse_request(encode_request(stream=True, max_output_tokens=64), b"application/json")
    assert (call.wire, call.operation, call.model) == ("openai.responses", Operation.CHAT, "m")
    assert (call.stream, call.max_tokens) == (True, 64)
    assert RESPONSES.parse_request(encode_request(stream=None), b"").stream is False


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "empty"),
        (b"{", None, "not valid JSON"),
        (b"[]", None, "must be an object"),
        (encode_request(model=...), "model", "is missing"),
        (encode_request(model=5), "model", "must be text"),
        (encode_request(input=...), "input", "is missing"),
        (encode_request(max_output_tokens=0), "max_output_tokens", ">= 1"),
        (encode_request(stream="yes"), "stream", "must be true or false"),
    ],
)
def test_a_body_that_cannot_be_routed_is_refused(body: bytes, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as raised:
        RESPONSES.parse_request(body, b"application/json")
    assert raised.value.param == param


@no_deadline
@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        RESPONSES.parse_request(body, b"application/json")


def test_instructions_come_before_a_plain_input() -> None:
    assert decode(instructions="Be brief.").messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Привет"),)),
    )


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("kind", [{}, {"type": "message"}])
def test_messages_may_be_plain_or_of_parts(role: str, kind: dict[str, str]) -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert items(kind | {"role": role, "content": "ab"}) == (Message(role, (Text("ab"),)),)
    assert items(kind | {"role": role, "content": parts}) == (Message(role, (Text("a"), Text("b"))),)


@pytest.mark.parametrize(
    ("part", "meant"),
    [
        ({"type": "input_text", "text": "hi"}, Text("hi")),
        ({"type": "output_text", "text": "hi", "annotations": []}, Text("hi")),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
            Image(data="QUJD", media_type="image/png", detail="low"),
        ),
        ({"type": "input_image", "image_url": "http://x/y.png"}, Image(url="http://x/y.png")),
        (
            {"type": "input_file", "filename": "r.pdf", "file_data": "data:application/pdf;base64,QUJD"},
            File(data="QUJD", media_type="application/pdf", name="r.pdf"),
        ),
        ({"type": "input_file", "filename": "r.pdf", "file_data": "QUJD"}, File(data="QUJD", name="r.pdf")),
        ({"type": "input_file", "file_url": "http://x/r.pdf"}, File(url="http://x/r.pdf")),
        ({"type": "input_file", "file_id": "file_1"}, File(id="file_1")),
        ({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}, Audio("QUJD", "wav")),
    ],
)
def test_content_of_a_user_is_decoded(part: dict[str, Any], meant: Part) -> None:
    assert items({"role": "user", "content": [part]}) == (Message("user", (meant,)),)


def test_an_assistants_items_become_one_message() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "short"}],
            "content": [{"type": "reasoning_text", "text": "Rain?"}],
            "encrypted_content": "sig",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_weather", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "c2", "name": "get_time", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
        {"type": "message", "role": "assistant", "content": "Sunny."},
    ]
    assert items(*turns) == (
        Message("user", (Text("Weather?"),)),
        Message(
            "assistant",
            (Text("I look."),),
            tool_calls=(ToolCall("c1", "get_weather", '{"a":1}'), ToolCall("c2", "get_time", "{}")),
            thinking="Rain?",
            thinking_signature="sig",
        ),
        Message("tool", (Text("sunny"),), tool_call_id="c1", name="get_weather"),
        Message("tool", (Text("noon"),), tool_call_id="c2", name="get_time"),
        Message("assistant", (Text("Sunny."),)),
    )


def test_reasoning_is_read_from_its_summary_where_there_is_no_text() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "short"}]}
    assert items(reasoning, {"role": "assistant", "content": "Yes."})[0].thinking == "short"


def test_reasoning_starts_a_new_turn_of_the_assistant() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm"}],
    }
    parsed = items({"role": "assistant", "content": "One."}, reasoning, {"role": "assistant", "content": "Two."})
    assert [(message.thinking, message.text) for message in parsed] == [("", "One."), ("Hm", "Two.")]


def test_a_refusal_stays_a_refusal() -> None:
    parts = [{"type": "refusal", "refusal": "I will not."}]
    assert items({"type": "message", "role": "assistant", "content": parts}) == (
        Message("assistant", refusal="I will not."),
    )


def test_tools_keep_their_schemas_as_they_came() -> None:
    assert decode(tools=[FUNCTION, {"type": "function", "name": "f", "parameters": None}]).tools == (
        Tool("get_weather", "", b'{"type": "object"}', True),
        Tool("f"),
    )


@pytest.mark.parametrize(
    ("choice", "meant", "names"),
    [
        (None, None, ["get_weather", "f"]),
        ("auto", ToolChoice("auto"), ["get_weather", "f"]),
        ("none", ToolChoice("none"), ["get_weather", "f"]),
        ("required", ToolChoice("required"), ["get_weather", "f"]),
        ({"type": "function", "name": "f"}, ToolChoice("function", "f"), ["get_weather", "f"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice("required"),
            ["f"],
        ),
    ],
)
def test_tool_choices(choice: Any, meant: ToolChoice | None, names: list[str]) -> None:
    chat = decode(tools=[FUNCTION, {"type": "function", "name": "f"}], tool_choice=choice, parallel_tool_calls=False)
    assert (chat.tool_choice, [tool.name for tool in chat.tools]) == (meant, names)
    assert chat.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Format()),
        (
            {"type": "json_schema", "name": "N", "schema": {"a": 1}, "strict": True, "description": "D"},
            Format(b'{"a": 1}', "N", True, "D"),
        ),
    ],
)
def test_a_response_format_may_be_requested(form: dict[str, Any], meant: Format | None) -> None:
    assert decode(text={"format": form}).format == meant


@pytest.mark.parametrize(
    ("reasoning", "meant"),
    [
        (None, None),
        ({"summary": "auto"}, None),
        ({"effort": "none"}, Thinking(enabled=False)),
        ({"effort": "minimal"}, Thinking(effort="minimal")),
        ({"effort": "high", "summary": "auto"}, Thinking(effort="high")),
        ({"effort": "xhigh"}, Thinking(effort="max")),
    ],
)
def test_thinking(reasoning: dict[str, Any] | None, meant: Thinking | None) -> None:
    assert decode(reasoning=reasoning).thinking == meant


def test_sampling_and_the_user() -> None:
    chat = decode(
        max_output_tokens=64,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=7,
        stop="END",
        presence_penalty=0.1,
        frequency_penalty=0.2,
        repetition_penalty=1.1,
        top_logprobs=3,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        safety_identifier="anna",
    )
    assert chat.sampling == Sampling(
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=7,
        stop=("END",),
        presence_penalty=0.1,
        frequency_penalty=0.2,
        repeat_penalty=1.1,
        n=None,
        logprobs=True,
        top_logprobs=3,
    )
    assert chat.user == "anna"


def test_fields_that_are_unknown_here_are_kept_for_engines() -> None:
    chat = decode(
        anything={"a": [1]},
        text={"verbosity": "low"},
        store=True,
        truncation="auto",
        service_tier="auto",
        prompt_cache_key="k",
        stream_options={"include_obfuscation": False},
        metadata={"a": "b"},
        background=False,
        previous_response_id=None,
        conversation=None,
    )
    assert dict(chat.extra) == {
        "anything": b'{"a": [1]}',
        "service_tier": b'"auto"',
        "prompt_cache_key": b'"k"',
        "stream_options": b'{"include_obfuscation": false}',
        "verbosity": b'"low"',
        "store": b"true",
        "truncation": b'"auto"',
    }


async def test_a_request_of_the_official_client_is_decoded() -> None:
    got: list[bytes] = []
    async with (
        serve_bytes(200, b"application/json", b"{}", got) as url,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client,
    ):
        await client.responses.create(
            model="m",
            instructions="Be brief.",
            input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
            tool_choice={"type": "function", "name": "f"},
            reasoning={"effort": "low"},
            store=False,
        )
    assert RESPONSES.decode_content(RESPONSES.parse_request(got[0], b"application/json")) == Chat(
        (Message("system", (Text("Be brief."),)), Message("user", (Text("hi"),))),
        tools=(Tool("f", parameters=b'{"type":"object"}', strict=False),),
        tool_choice=ToolChoice("function", "f"),
        thinking=Thinking(effort="low"),
    )
