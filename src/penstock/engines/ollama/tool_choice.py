"""Tool choices that Ollama does not have, brought about by what it has: fewer tools, and a schema for the text."""

from typing import Any

import msgspec

from penstock.domain.content import Chat, Tool
from penstock.engines.json_fields import DECODE_ERRORS

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_DEFINITIONS = ("$defs", "definitions")


def select_tools(chat: Chat) -> tuple[Tool, ...]:
    """Return the tools to offer: the one that must be called, none if none may be called, or all."""
    choice = chat.tool_choice
    if choice is None or choice.mode in ("auto", "required"):
        return chat.tools
    return tuple(tool for tool in chat.tools if choice.mode == "function" and tool.name == choice.name)


def is_call_forced(chat: Chat) -> bool:
    """Return whether the response must be a tool call."""
    choice = chat.tool_choice
    return choice is not None and choice.mode in ("required", "function") and bool(select_tools(chat))


def constrain_tool_choice(chat: Chat) -> dict[str, Any] | None:
    """Return the schema of a text that is a tool call, None if the model may respond otherwise."""
    if not is_call_forced(chat):
        return None
    definitions: dict[str, dict[str, Any]] = {}
    calls = [_build_call_schema(tool, definitions) for tool in select_tools(chat)]
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}) | definitions


def _build_call_schema(tool: Tool, definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a call. Definitions of the parameters move to `definitions`, where references find them."""
    arguments = _decode_schema(tool.parameters)
    for key in _DEFINITIONS:
        own = arguments.pop(key, None)
        if not isinstance(own, dict):
            continue
        shared = definitions.setdefault(key, {})
        if any(shared.get(name, schema) != schema for name, schema in own.items()):
            arguments = _ANY_OBJECT
            break
        shared.update(own)
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [tool.name]}, "arguments": arguments},
        "required": ["name", "arguments"],
    }


def _decode_schema(parameters: bytes) -> dict[str, Any]:
    try:
        schema = msgspec.json.decode(parameters) if parameters else _ANY_OBJECT
    except DECODE_ERRORS:
        return dict(_ANY_OBJECT)
    return dict(schema) if isinstance(schema, dict) and schema else dict(_ANY_OBJECT)
