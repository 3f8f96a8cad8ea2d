"""Tool choices that Ollama does not have."""

import json
from typing import Any

import pytest

from penstock.domain.content import Chat, Message, Text, Tool, ToolChoice
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines.ollama.engine import ENGINE

HELLO = Message("user", (Text("hello"),))
ADD = Tool("add", "", b'{"type":"object","properties":{"a":{"$ref":"#/$defs/N"}},"$defs":{"N":{"type":"number"}}}')
SUB = Tool("sub")
CALL = Call("openai.chat", Operation.CHAT, "m", False, b"{}")


def translate(choice: ToolChoice | None, *tools: Tool) -> dict[str, Any]:
    chat = Chat((HELLO,), tools, choice)
    return json.loads(ENGINE.translate_request(CALL, chat, Model("m")).body)


@pytest.mark.parametrize("choice", [None, ToolChoice("auto")])
def test_tools_are_offered_by_default(choice: ToolChoice | None):
    body = translate(choice, ADD, SUB)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add", "sub"]
    assert "format" not in body


def test_a_named_tool_is_the_only_one_and_its_call_the_only_text():
    body = translate(ToolChoice("function", "add"), ADD, SUB)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add"]
    assert body["format"] == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": ["add"]},
            "arguments": {"type": "object", "properties": {"a": {"$ref": "#/$defs/N"}}},
        },
        "required": ["name", "arguments"],
        "$defs": {"N": {"type": "number"}},
    }


def test_a_required_call_is_one_of_the_tools():
    body = translate(ToolChoice("required"), ADD, SUB)
    assert [call["properties"]["name"]["enum"] for call in body["format"]["anyOf"]] == [["add"], ["sub"]]
    assert body["format"]["$defs"] == {"N": {"type": "number"}}


def test_definitions_of_one_name_and_two_meanings_leave_the_arguments_open():
    other = Tool("other", "", b'{"type":"object","$defs":{"N":{"type":"string"}}}')
    calls = translate(ToolChoice("required"), ADD, other)["format"]["anyOf"]
    assert calls[1]["properties"]["arguments"] == {"type": "object"}


@pytest.mark.parametrize("mode", ["required", "function"])
def test_without_tools_nothing_is_required(mode: str):
    assert set(translate(ToolChoice(mode, "x"))) == {"model", "messages", "stream"}
