"""Errors for invalid requests to Anthropic's API, and for features that only its own servers have."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.anthropic import DIALECT
from penstock.domain.content import Chat
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Call, Operation
from tests.unit.dialects.chunk_streams import no_deadline

MESSAGES, COUNT = DIALECT.endpoints
HELLO = [{"role": "user", "content": "Привет"}]
WEATHER = {"name": "get_weather", "input_schema": {"type": "object"}}


def encode_request(**members: Any) -> bytes:
    """Encode a request's body; a member that is `...` is left out."""
    body = {"model": "m", "max_tokens": 100, "messages": HELLO} | members
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def get_error(**members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        MESSAGES.decode_content(MESSAGES.parse_request(encode_request(**members), b"application/json"))
    return raised.value


def decode(**members: Any) -> Chat:
    return MESSAGES.decode_content(MESSAGES.parse_request(encode_request(**members), b"application/json"))


def block(value: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": role, "content": [value]}]}


AT = "messages.1.content.0"
PNG = {"type": "base64", "media_type": "image/png"}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        (block({"text": "hi"}), f"{AT}.type"),
        (block({"type": "text"}), f"{AT}.text"),
        (block({"type": "text", "text": 5}), f"{AT}.text"),
        (block({"type": "image"}), f"{AT}.source"),
        (block({"type": "image", "source": "http://x"}), f"{AT}.source"),
        (block({"type": "image", "source": PNG}), f"{AT}.source.data"),
        (block({"type": "image", "source": {"type": "tape"}}), f"{AT}.source.type"),
        (block({"type": "image", "source": {"type": "file", "file_id": "f"}}), f"{AT}.source"),
        (block({"type": "tool_use", "id": "t", "name": "f", "input": {}}), f"{AT}.type"),
        (block({"type": "thinking", "thinking": "", "signature": ""}), f"{AT}.type"),
        (block({"type": "tool_result"}), f"{AT}.tool_use_id"),
        (block({"type": "tool_result", "tool_use_id": "t", "content": 5}), f"{AT}.content"),
        (
            block({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}]}),
            f"{AT}.content.0.source.data",
        ),
        (block({"type": "tool_result", "tool_use_id": "t"}, "assistant"), f"{AT}.type"),
        (block({"type": "tool_result", "tool_use_id": "t"}, "system"), f"{AT}.type"),
        (block({"type": "image", "source": PNG | {"data": ""}}, "assistant"), f"{AT}.type"),
        (block({"type": "tool_use", "id": "t", "name": "f", "input": "x"}, "assistant"), f"{AT}.input"),
        (block({"type": "tool_use", "id": "t", "name": "f"}, "assistant"), f"{AT}.input"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image", "source": PNG}]}, "system.0.type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "f", "input_schema": "x"}]}, "tools.0.input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 5}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 5}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema", "schema": []}}, "output_format.schema"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [5]}, "stop_sequences.0"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    ],
)
def test_a_wrong_request_is_refused_naming_the_field(members: dict[str, Any], param: str) -> None:
    error = get_error(**members)
    assert error.param == param
    assert error.message.startswith(f"`{param}` ")


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ("tools.web_search_20250305",)),
        ({"tools": [WEATHER, {"type": "bash_20250124", "name": "bash"}]}, ("tools.bash_20250124",)),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}], "tool_choice": {"type": "any"}},
            ("tools.bash_20250124", "tool_choice"),
        ),
        (block({"type": "container_upload", "file_id": "f"}), ("messages.container_upload",)),
        (block({"type": "hologram"}), ("messages.hologram",)),
        ({"system": [{"type": "text", "text": "a"}, {"type": "hologram"}]}, ("system.hologram",)),
    ],
)
def test_what_only_the_providers_servers_can_do_is_left_out_and_named(
    members: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    chat = decode(**members)
    assert chat.ignored == ignored
    assert chat.tool_choice is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            '[web_search({"query":"q"})]',
        ),
        (
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "A", "url": "http://a"}]},
            "A\nhttp://a",
        ),
        ({"type": "tool_reference", "tool_name": "Edit"}, "[tool: Edit]"),
    ],
)
def test_blocks_of_other_tools_become_text(value: dict[str, Any], text: str) -> None:
    assert decode(**block(value, "assistant")).messages[1].text == text
    result = {"type": "tool_result", "tool_use_id": "t", "content": [value]}
    assert decode(**block(result)).messages[1].text == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "source"]), inner),
    max_leaves=6,
)


@no_deadline
@given(
    st.dictionaries(
        st.sampled_from(
            ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "top_k"]
        ),
        json_values,
    )
)
def test_any_json_is_decoded_or_refused(members: dict[str, Any]) -> None:
    call = Call("anthropic.messages", Operation.CHAT, "m", False, encode_request(**members))
    try:
        outcome: object = MESSAGES.decode_content(call)
    except InvalidRequest as error:
        outcome = error.message
    assert isinstance(outcome, Chat | str)
