"""Ollama's request fields: the structs of its API, and the values that have rules of their own."""

import math
from typing import Any

from penstock.sim.kinds.ollama.go.decoder import (
    BadBodyError,
    SavedError,
    Slice,
    Struct,
    WrongTypeError,
    decode_struct,
    describe_kind,
)
from penstock.sim.kinds.ollama.go.text import find_base64_error, parse_duration, quote_text

_THINK = '"high", "medium", "low", "max", true, or false'
_MAP = "map[string]interface {}"
_STRING_MAP = "map[string]string"
_NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"
_MAX_NANOSECONDS = 2**63


def read_keep_alive(value: Any) -> float | None:
    """Parse keep_alive into seconds; infinite for anything negative."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            nanoseconds = parse_duration(value)
        except ValueError as error:
            raise BadBodyError(str(error)) from None
        return math.inf if nanoseconds < 0 else nanoseconds / 1e9
    if isinstance(value, bool) or not isinstance(value, int | float):
        name = {bool: "bool", dict: _MAP, list: "[]interface {}"}[type(value)]
        raise BadBodyError(f"Unsupported type: '{name}'")
    if value < 0:
        return math.inf
    # An overflow of Go's int64 is a negative duration, so that the model is unloaded after the request.
    return math.trunc(value * 1e9) / 1e9 if value * 1e9 < _MAX_NANOSECONDS else 1e-9


def read_think(value: Any) -> bool | str | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise BadBodyError(f"think must be a boolean or string ({_THINK})")
    if value not in {"high", "medium", "low", "max"}:
        raise BadBodyError(f"invalid think value: {quote_text(value)} (must be {_THINK})")
    return value


def read_image(value: Any) -> str:
    """Check an image, which is base64 in JSON. A wrong one does not end the decoding, as no wrong type does."""
    if isinstance(value, str):
        position = find_base64_error(value)
        if position is not None:
            raise SavedError(BadBodyError(f"illegal base64 data at input byte {position}"))
        return value
    if value is None or isinstance(value, list):
        return ""
    raise SavedError(WrongTypeError(describe_kind(value), "api.ImageData"))


def read_arguments(value: Any) -> dict[str, Any]:
    """Check the arguments of a call, an object whose keys keep their order."""
    if value is None or isinstance(value, dict):
        return value or {}
    raise BadBodyError(_NO_OBJECT)


def read_property_type(value: Any) -> list[str]:
    """Read the type of a tool's parameter: a string, or a list of them."""
    if value is None or isinstance(value, str):
        return [value or ""]
    if not isinstance(value, list):
        raise WrongTypeError(describe_kind(value), "[]string")
    for entry in value:
        if not isinstance(entry, str | None):
            raise WrongTypeError(describe_kind(entry), "string")
    return value


def read_properties(value: Any) -> dict[str, Any]:
    """Check the parameters of a tool and return them as they are."""
    properties = read_arguments(value)
    for entry in properties.values():
        decode_struct(entry, PROPERTY)
    return properties


def read_message(value: Any) -> dict[str, Any]:
    """Decode a message by a call of its own, with a role in lower case; null is an empty one."""
    if value is None:
        return {}
    message = decode_struct(value, _ALIAS)
    return {**message, "role": message["role"].lower()} if message.get("role") else message


PROPERTY = Struct(
    "ToolProperty",
    {
        "type": read_property_type,
        "items": "interface {}",
        "description": "string",
        "enum": Slice("interface {}", "[]interface {}"),
        "properties": read_properties,
        "required": Slice("string", "[]string"),
    },
)
PARAMETERS = Struct(
    "ToolFunctionParameters",
    {
        "type": "string",
        "$defs": "interface {}",
        "items": "interface {}",
        "required": Slice("string", "[]string"),
        "properties": read_properties,
    },
)
TOOL = Struct(
    "Tool",
    {
        "type": "string",
        "items": "interface {}",
        "function": Struct("ToolFunction", {"name": "string", "description": "string", "parameters": PARAMETERS}),
    },
)
_CALL = Struct(
    "ToolCall",
    {
        "id": "string",
        "function": Struct("ToolCallFunction", {"index": "int", "name": "string", "arguments": read_arguments}),
    },
)
_IMAGES = Slice(read_image, "[]api.ImageData")
_ALIAS = Struct(
    "Alias",
    {
        "role": "string",
        "content": "string",
        "thinking": "string",
        "images": _IMAGES,
        "tool_calls": Slice(_CALL, "[]api.ToolCall"),
        "tool_name": "string",
        "tool_call_id": "string",
    },
)
_MESSAGES = Slice(read_message, "[]api.Message")
_COMMON = {
    "model": "string",
    "stream": "bool",
    "options": _MAP,
    "format": "interface {}",
    "keep_alive": read_keep_alive,
    "think": read_think,
    "truncate": "bool",
    "shift": "bool",
    "_debug_render_only": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
}
CHAT = Struct("ChatRequest", {**_COMMON, "messages": _MESSAGES, "tools": Slice(TOOL, "api.Tools")})
GENERATE = Struct(
    "GenerateRequest",
    {
        **_COMMON,
        "prompt": "string",
        "suffix": "string",
        "system": "string",
        "template": "string",
        "context": Slice("int", "[]int"),
        "raw": "bool",
        "images": _IMAGES,
    },
)
EMBED = Struct(
    "EmbedRequest",
    {
        "model": "string",
        "input": "interface {}",
        "truncate": "bool",
        "dimensions": "int",
        "options": _MAP,
        "keep_alive": read_keep_alive,
    },
)
EMBEDDINGS = Struct(
    "EmbeddingRequest", {"model": "string", "prompt": "string", "options": _MAP, "keep_alive": read_keep_alive}
)
NAMED = {"model": "string", "name": "string"}
SHOW = Struct("ShowRequest", {**NAMED, "verbose": "bool", "system": "string", "template": "string", "options": _MAP})
DELETE = Struct("DeleteRequest", NAMED)
COPY = Struct("CopyRequest", {"source": "string", "destination": "string"})
_TRANSFER = {**NAMED, "insecure": "bool", "username": "string", "password": "string", "stream": "bool"}
PULL = Struct("PullRequest", _TRANSFER)
PUSH = Struct("PushRequest", _TRANSFER)
CREATE = Struct(
    "CreateRequest",
    {
        **NAMED,
        "stream": "bool",
        "quantize": "string",
        "draft_quantize": "string",
        "from": "string",
        "remote_host": "string",
        "files": _STRING_MAP,
        "draft_files": _STRING_MAP,
        "adapters": _STRING_MAP,
        "template": "string",
        "license": "interface {}",
        "system": "string",
        "parameters": _MAP,
        "messages": _MESSAGES,
        "renderer": "string",
        "parser": "string",
        "requires": "string",
        "info": _MAP,
        "quantization": "string",
    },
)
