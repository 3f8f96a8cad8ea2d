"""Errors for invalid requests to the Responses API, and for features that only OpenAI's servers have."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai_responses import DIALECT
from penstock.domain.content import Chat
from penstock.domain.errors import InvalidRequest, Unsupported
from penstock.domain.request import Call, Operation
from tests.unit.dialects.chunk_streams import no_deadline

(RESPONSES,) = DIALECT.endpoints
FUNCTION = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}


def encode_request(**members: Any) -> bytes:
    """Encode a request's body; a member that is `...` is left out."""
    body = {"model": "m", "input": "Привет"} | members
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def get_error(**members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        RESPONSES.decode_content(RESPONSES.parse_request(encode_request(**members), b"application/json"))
    return raised.value


def item(**members: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "hi"}, members]}


def part(**members: Any) -> dict[str, Any]:
    return item(role="user", content=[members])


AT = "input.1.content.0"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi"]}, "input.0"),
        (item(role="robot", content="hi"), "input.1.role"),
        (item(role="user"), "input.1.content"),
        (item(role="user", content=5), "input.1.content"),
        (item(role="user", content=["hi"]), AT),
        (item(type=5), "input.1.type"),
        (part(text="hi"), f"{AT}.type"),
        (part(type="hologram"), f"{AT}.type"),
        (part(type="input_text"), f"{AT}.text"),
        (part(type="input_text", text=5), f"{AT}.text"),
        (part(type="input_image"), f"{AT}.image_url"),
        (part(type="input_image", image_url={"url": "http://x"}), f"{AT}.image_url"),
        (part(type="input_image", file_id="file_1"), f"{AT}.file_id"),
        (part(type="input_file"), f"{AT}.file_data"),
        (part(type="input_audio"), f"{AT}.input_audio"),
        (part(type="input_audio", input_audio={"data": ""}), f"{AT}.input_audio.format"),
        (item(type="function_call", name="f", arguments="{}"), "input.1.call_id"),
        (item(type="function_call", call_id="c", name="f", arguments={}), "input.1.arguments"),
        (item(type="function_call_output", call_id="c"), "input.1.output"),
        (
            item(type="function_call_output", call_id="c", output=[{"type": "input_image"}]),
            "input.1.output.0.image_url",
        ),
        (item(type="reasoning", summary="short"), "input.1.summary"),
        ({"instructions": 5}, "instructions"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "f"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": "x"}]}, "tools.0.parameters"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]},
            },
            "tool_choice.tools.0.name",
        ),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "N"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "N", "schema": 5}}}, "text.format.schema"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": 5}}, "metadata"),
        ({"truncation": 5}, "truncation"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)
def test_a_wrong_request_is_refused_naming_the_field(members: dict[str, Any], param: str) -> None:
    error = get_error(**members)
    assert error.param == param
    assert error.message.startswith(f"`{param}` ")


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "Send the complete conversation"),
        ({"conversation": "conv_1"}, "conversation", "Send the complete conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "Send the complete conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "stored"),
        ({"background": True}, "background", "stream it"),
        (item(type="item_reference", id="msg_1"), "input.1", "Send the item itself"),
        (item(id="msg_1"), "input.1", "Send the item itself"),
    ],
)
def test_references_to_stored_data_are_refused(members: dict[str, Any], param: str, words: str) -> None:
    error = get_error(**members)
    assert isinstance(error, Unsupported)
    assert error.param == param
    assert words in error.message


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
        ({"tools": [FUNCTION, {"type": "mcp", "server_label": "x"}]}, "tools.mcp"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "file_search"}}, "tool_choice.file_search"),
        ({"tools": [{"type": "image_generation"}], "tool_choice": "required"}, "tool_choice"),
        (item(type="web_search_call", id="ws_1", status="completed"), "input.web_search_call"),
        (item(type="computer_call_output", call_id="c", output={}), "input.computer_call_output"),
        (item(type="compaction", encrypted_content="x"), "input.compaction"),
    ],
)
def test_what_openai_runs_itself_is_left_out_and_named(members: dict[str, Any], ignored: str) -> None:
    chat = RESPONSES.decode_content(RESPONSES.parse_request(encode_request(**members), b"application/json"))
    assert chat.ignored[-1] == ignored


def test_text_that_is_not_utf_8_is_refused_wherever_it_stands() -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        RESPONSES.decode_content(Call("openai.responses", Operation.CHAT, "m", False, b'{"model":"m","input":"\xff"}'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "output", "name"]), inner)
    ),
    max_leaves=6,
)


@no_deadline
@given(
    st.dictionaries(
        st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "conversation", "include", "stop"]),
        json_values,
    )
)
def test_any_json_is_decoded_or_refused(members: dict[str, Any]) -> None:
    call = Call("openai.responses", Operation.CHAT, "m", False, encode_request(**members))
    try:
        outcome: object = RESPONSES.decode_content(call)
    except InvalidRequest as error:
        outcome = error.message
    assert isinstance(outcome, Chat | str)
