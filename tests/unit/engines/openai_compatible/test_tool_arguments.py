"""Arguments of tool calls in a conversation's history."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.content import Chat, Message, ToolCall
from penstock.engines.ollama.engine import ENGINE as OLLAMA
from penstock.engines.openai_compatible.engine import ENGINE
from penstock.engines.openai_compatible.tool_arguments import fill_arguments
from tests.unit.engines.engine_calls import make_call, translate


def make_body(arguments: object, text: str = "hi", indent: int | None = None) -> bytes:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    return json.dumps({"model": "m", "messages": messages}, indent=indent).encode()


@pytest.mark.parametrize("arguments", ["", "  ", None])
@pytest.mark.parametrize("indent", [None, 2])
def test_empty_arguments_become_an_empty_object(arguments: str | None, indent: int | None):
    assert json.loads(fill_arguments(make_body(arguments, indent=indent))) == json.loads(make_body("{}"))


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_other_arguments_and_texts_stay_as_they_are(arguments: str, text: str):
    body = make_body(arguments, text)
    assert fill_arguments(body) == body


@pytest.mark.parametrize("text", ['{"arguments": ""}', '"arguments":""', '\\"arguments": ""'])
def test_a_text_that_looks_like_arguments_stays_as_it_is(text: str):
    body = make_body("{}", text)
    assert fill_arguments(body) == body


@pytest.mark.parametrize("arguments", ["", " "])
def test_empty_arguments_are_filled_in_translated_requests_too(arguments: str):
    chat = Chat((Message("assistant", (), tool_calls=(ToolCall("c", "f", arguments),)),))
    sent = translate(ENGINE, chat, make_call())[1]
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"
    sent = translate(OLLAMA, chat, make_call())[1]
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == {}
