"""Decoding of Anthropic's requests: every documented form, and the errors for invalid ones."""

import json
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.anthropic import DIALECT
from penstock.domain.content import (
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

MESSAGES, COUNT = DIALECT.endpoints
HELLO = [{"role": "user", "content": "Привет"}]
WEATHER = {"name": "get_weather", "input_schema": {"type": "object"}}


def encode_request(**members: Any) -> bytes:
    """Encode a request's body; a member that is `...` is left out."""
    body = {"model": "m", "max_tokens": 100, "messages": HELLO} | members
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def decode(**members: Any) -> Chat:
    chat = MESSAGES.decode_content(MESSAGES.parse_request(encode_request(**members), b"application/json"))
    assert isinstance(chat, Chat)
    return chat


def decode_content(content: Any) -> tuple[Message, ...]:
    return decode(messages=[{"role": "user", "content": content}]).messages


def test_parsing_returns_what_routing_needs() -> None:
    call = MESSAGES.parse_request(encode_request(stream=True), b"application/json")
    assert (call.wire, call.operation, call.model) == ("anthropic.messages", Operation.CHAT, "m")
    assert (call.stream, call.max_tokens, call.flags) == (True, 100, frozenset())
    assert call.body == encode_request(stream=True)


def test_parsing_a_count_needs_no_token_limit() -> None:
    call = COUNT.parse_request(encode_request(max_tokens=..., stream=True), b"application/json")
    assert (call.wire, call.operation, call.stream) == ("anthropic.count_tokens", Operation.COUNT, False)
    assert COUNT.decode_content(call) == Chat((Message("user", (Text("Привет"),)),))


@pytest.mark.parametrize(
    ("thinking", "hidden"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, False),
        ({"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, True),
        ({"type": "adaptive", "display": "summarized"}, False),
        ({"type": "disabled"}, True),
    ],
)
def test_parsing_notes_that_thinking_is_hidden(thinking: dict[str, Any], hidden: bool) -> None:
    flags = MESSAGES.parse_request(encode_request(thinking=thinking), b"application/json").flags
    assert flags == (frozenset({"hide_thinking"}) if hidden else frozenset())


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "empty"),
        (b"  ", None, "empty"),
        (b"{", None, "not valid JSON"),
        (b"nonsense", None, "not valid JSON"),
        (b"[]", None, "must be an object"),
        (encode_request(model=...), "model", "is missing"),
        (encode_request(model=5), "model", "must be text"),
        (encode_request(messages=...), "messages", "is missing"),
        (encode_request(max_tokens=...), "max_tokens", "is missing"),
        (encode_request(max_tokens="9"), "max_tokens", "must be a whole number"),
        (encode_request(max_tokens=0), "max_tokens", ">= 1"),
        (encode_request(stream="yes"), "stream", "must be true or false"),
    ],
)
def test_a_body_that_cannot_be_routed_is_refused(body: bytes, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as raised:
        MESSAGES.parse_request(body, b"application/json")
    assert raised.value.param == param


def test_a_body_nested_too_deeply_is_refused() -> None:
    body = encode_request().removesuffix(b"}") + b',"extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        MESSAGES.parse_request(body, b"application/json")


@no_deadline
@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MESSAGES.parse_request(body, b"application/json")


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        ("Be brief.", (Text("Be brief."),)),
        ([{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}], (Text("Be "), Text("brief."))),
        ([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "citations": None}], (Text("x"),)),
    ],
)
def test_system_text_comes_first(system: Any, parts: tuple[Part, ...]) -> None:
    assert decode(system=system).messages[0] == Message("system", parts)


@pytest.mark.parametrize("system", [None, "", []])
def test_no_system_text_makes_no_message(system: Any) -> None:
    assert decode(system=system).messages == (Message("user", (Text("Привет"),)),)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}, (Text("hi"),)),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            (Image(data="QUJD", media_type="image/png"),),
        ),
        ({"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}, (Image(url="http://x/y.png"),)),
        (
            {
                "type": "document",
                "title": "Report",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
            },
            (File(data="QUJD", media_type="application/pdf", name="Report"),),
        ),
        ({"type": "document", "source": {"type": "url", "url": "http://x/y.pdf"}}, (File(url="http://x/y.pdf"),)),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, (File(id="file_1"),)),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            (Text("words"),),
        ),
        (
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "text", "media_type": "text/plain", "data": "words"},
            },
            (Text("T\nC\nwords"),),
        ),
        ({"type": "document", "source": {"type": "content", "content": "words"}}, (Text("words"),)),
        (
            {
                "type": "document",
                "title": "T",
                "source": {"type": "content", "content": [{"type": "text", "text": "words"}]},
            },
            (Text("T\n"), Text("words")),
        ),
        (
            {
                "type": "search_result",
                "source": "http://x",
                "title": "X",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            (Text("X\nhttp://x\na\nb"),),
        ),
    ],
)
def test_content_of_a_user_is_decoded(block: dict[str, Any], parts: tuple[Part, ...]) -> None:
    assert decode_content([block]) == (Message("user", parts),)


def test_an_assistants_blocks_become_one_message() -> None:
    content = [
        {"type": "thinking", "thinking": "Rain? ", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Париж"}},
        {"type": "tool_use", "id": "t2", "name": "get_time", "input": {}, "cache_control": None},
    ]
    chat = decode(messages=[*HELLO, {"role": "assistant", "content": content}])
    assert chat.messages[1] == Message(
        "assistant",
        (Text("I look."),),
        tool_calls=(
            ToolCall("t1", "get_weather", json.dumps({"city": "Париж"})),
            ToolCall("t2", "get_time", "{}"),
        ),
        thinking="Rain? ",
        thinking_signature="sig",
    )


def test_text_before_a_tools_result_stays_before_it() -> None:
    parsed = decode_content(
        [{"type": "text", "text": "So:"}, {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]
    )
    assert parsed == (Message("user", (Text("So:"),)), Message("tool", (Text("sunny"),), tool_call_id="t1"))


def test_a_request_may_start_the_answer_of_the_model() -> None:
    assert decode(messages=[*HELLO, {"role": "assistant", "content": "Here"}]).messages[1].text == "Here"


def test_tool_results_become_messages_that_name_their_tools() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": "t2",
            "is_error": True,
            "content": [
                {"type": "text", "text": "broke"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            ],
        },
        {"type": "tool_result", "tool_use_id": "t3"},
        {"type": "text", "text": "So?"},
    ]
    chat = decode(messages=[*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": results}])
    assert chat.messages[2:] == (
        Message("tool", (Text("sunny"),), tool_call_id="t1", name="get_weather"),
        Message(
            "tool",
            (Text("Error: broke"), Image(data="QUJD", media_type="image/png")),
            tool_call_id="t2",
            is_error=True,
        ),
        Message("tool", (Text(""),), tool_call_id="t3"),
        Message("user", (Text("So?"),)),
    )


def test_a_system_message_may_stand_between_others() -> None:
    assert decode(messages=[*HELLO, {"role": "system", "content": "Be brief."}]).messages[1] == Message(
        "system", (Text("Be brief."),)
    )


def test_tools_keep_their_schemas_as_they_came() -> None:
    tools = [
        WEATHER | {"description": "Weather now", "strict": True, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "f", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert decode(tools=tools).tools == (
        Tool("get_weather", "Weather now", b'{"type": "object"}', True),
        Tool("f", "", b'{"type": "object", "properties": {}}'),
    )


@pytest.mark.parametrize(
    ("choice", "meant", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any"}, ToolChoice("required"), None),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "tool", "name": "get_weather"}, ToolChoice("function", "get_weather"), None),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice("auto"), False),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required"), None),
    ],
)
def test_tool_choices(choice: dict[str, Any], meant: ToolChoice, parallel: bool | None) -> None:
    chat = decode(tools=[WEATHER], tool_choice=choice)
    assert (chat.tool_choice, chat.parallel_tool_calls) == (meant, parallel)


@pytest.mark.parametrize(
    ("members", "meant"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(budget=2048)),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False)),
        ({"thinking": {"type": "adaptive"}}, Thinking()),
        ({"thinking": {"type": "adaptive", "budget_tokens": 0}}, Thinking()),
        ({"thinking": {"type": "enabled"}}, Thinking()),
        ({"thinking": {"type": "next_year"}}, Thinking()),
        ({"output_config": {"effort": "heroic"}}, Thinking(effort="max")),
        ({"thinking": {"type": "between_tools"}}, Thinking()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Thinking(effort="low")),
        ({"output_config": {"effort": "xhigh"}}, Thinking(effort="max")),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Thinking(enabled=False)),
    ],
)
def test_thinking(members: dict[str, Any], meant: Thinking | None) -> None:
    assert decode(**members).thinking == meant


@pytest.mark.parametrize(
    "members",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
    ],
)
def test_a_response_format_may_be_requested(members: dict[str, Any]) -> None:
    assert decode(**members).format == Format(b'{"type": "object"}', strict=True)


def test_sampling_and_the_user() -> None:
    chat = decode(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END", "\n\n"], metadata={"user_id": "anna"})
    assert chat.sampling == Sampling(max_tokens=100, temperature=0.5, top_p=0.9, top_k=40, stop=("END", "\n\n"))
    assert chat.user == "anna"


def test_fields_that_are_unknown_here_are_kept_for_engines() -> None:
    chat = decode(
        min_p=0.1,
        anything={"a": [1]},
        nothing=None,
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        context_management={"edits": []},
        mcp_servers=[],
        container=None,
    )
    assert dict(chat.extra) == {
        "min_p": b"0.1",
        "anything": b'{"a": [1]}',
        "service_tier": b'"auto"',
        "cache_control": b'{"type": "ephemeral"}',
        "context_management": b'{"edits": []}',
        "mcp_servers": b"[]",
    }


async def test_a_request_of_the_official_client_is_decoded() -> None:
    got: list[bytes] = []
    async with (
        serve_bytes(200, b"application/json", b'{"input_tokens":1}', got) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        await client.messages.create(
            model="m",
            max_tokens=10,
            system=[{"type": "text", "text": "Be brief."}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
            tool_choice={"type": "tool", "name": "f"},
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        await client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}])
    chat = MESSAGES.decode_content(MESSAGES.parse_request(got[0], b"application/json"))
    assert chat == Chat(
        (Message("system", (Text("Be brief."),)), Message("user", (Text("hi"),))),
        tools=(Tool("f", parameters=b'{"type":"object"}'),),
        tool_choice=ToolChoice("function", "f"),
        sampling=Sampling(max_tokens=10),
        thinking=Thinking(budget=1024),
    )
    assert COUNT.decode_content(COUNT.parse_request(got[1], b"")) == Chat((Message("user", (Text("hi"),)),))
