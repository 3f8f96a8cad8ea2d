"""JSON the way Ollama's server takes it, its words for what it does not take, and text drawn so that clients survive.

Go's decoder is laxer than ours: it matches keys whatever their case, ignores what follows the first value, and puts
U+FFFD where UTF-8 is broken. What a strict decoder refuses is brought into strict form here, off the hot path.
"""

import re
from typing import Any

import msgspec

from penstock.domain.errors import InvalidRequest

_encode = msgspec.json.encode
_ESCAPED = re.compile("[<>&\x85\u2028\u2029]").search

_FIELDS = """
    model name stream messages keep_alive options prompt suffix raw system template context images format think truncate
    shift logprobs top_logprobs tools role content thinking tool_calls tool_name tool_call_id id function arguments
    index type description parameters input dimensions source destination server
"""
_KNOWN = frozenset(_FIELDS.split())
# A map's keys are the caller's own words: Go matches only the fields of structs without regard to case.
_MAPS = frozenset({"options", "arguments", "parameters", "format"})
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_AT = re.compile(r"\(byte (\d+)\)")
_EXPECTED = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_GO_KINDS = {"int": "number", "float": "number", "str": "string"}
_OPTION_TYPES = {"int | float": "integer"}
_GO_TYPES = {"str": "string", "int": "int", "float": "float32", "object": "map[string]interface {}"}
_GO_FIELDS = {
    "options": "map[string]interface {}",
    "messages": "[]api.Message",
    "tools": "api.Tools",
    "images": "[]api.ImageData",
    "context": "[]int",
    "messages.images": "[]api.ImageData",
    "messages.tool_calls": "[]api.ToolCall",
    "messages.tool_calls.function.arguments": "api.ToolCallFunctionArguments",
}


def quoted(text: str) -> bytes:
    """A JSON string that is one line to every client.

    The Python client splits lines as `str.splitlines` does, so the separators beyond ASCII must not stand raw; `<`,
    `>` and `&` are escaped because Go does it.
    """
    try:
        drawn = _encode(text)
    except UnicodeEncodeError:
        drawn = _encode(text.encode("utf-8", "replace").decode())
    if _ESCAPED(text) is None:
        return drawn
    drawn = drawn.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return one_line(drawn)


def one_line(drawn: bytes) -> bytes:
    """JSON with the line separators beyond ASCII escaped (they stand only inside strings)."""
    if drawn.isascii():
        return drawn
    drawn = drawn.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return drawn.replace(b"\xc2\x85", b"\\u0085")


def strict(body: bytes, request: str) -> bytes:
    """The body in the form that a strict decoder takes; raises InvalidRequest in Ollama's words.

    `request` is the name of Ollama's type for it, e.g. `ChatRequest`.
    """
    if not body.strip(b" \t\r\n"):
        raise InvalidRequest("missing request body")
    repaired = _LONE_SURROGATE.sub(lambda m: m[1] + (m[2] or rb"\ufffd"), body)
    repaired = repaired.decode("utf-8", "replace").encode()
    try:
        value = _first_value(repaired)
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_syntax(error, repaired)) from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"json: cannot unmarshal {_kind(value)} into Go value of type api.{request}")
    return _encode(_folded(value))


def complaint(error: msgspec.ValidationError, request: str) -> InvalidRequest:
    """What Ollama says to a field of the wrong type."""
    match = _EXPECTED.search(str(error))
    if match is None:
        return InvalidRequest(str(error))
    expected, got, path = match[1].removesuffix(" | null"), match[2], re.sub(r"\[[^]]*]", "", match[3] or "")
    if path.startswith("options."):
        return InvalidRequest(
            f'option "{path[8:]}" must be of type {_OPTION_TYPES.get(expected, expected)}', param=path
        )
    wanted = _GO_FIELDS.get(path) or _GO_TYPES.get(expected, expected)
    where = f"struct field {request}.{path}" if path else "value"
    kind = _GO_KINDS.get(got, got)
    return InvalidRequest(f"json: cannot unmarshal {kind} into Go {where} of type {wanted}", param=path or None)


def decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes, request: str) -> Any:
    """Decode strictly, leniently where that fails; raises InvalidRequest."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return relaxed(decoder, body, request)


def relaxed(decoder: "msgspec.json.Decoder[Any]", body: bytes, request: str) -> Any:
    """Decode with all of Ollama's leniency; raises InvalidRequest."""
    try:
        return decoder.decode(strict(body, request))
    except msgspec.ValidationError as error:
        raise complaint(error, request) from None


def _first_value(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if "trailing characters" not in str(error) or not (at := _AT.search(str(error))):
            raise
        return msgspec.json.decode(body[: int(at[1]) - 1])  # it counts the character itself


def _syntax(error: msgspec.DecodeError, body: bytes) -> str:
    at = _AT.search(str(error))
    if "truncated" in str(error) or at is None:
        return "unexpected EOF"
    character = body[int(at[1]) :].decode("utf-8", "replace")[:1]
    return f"invalid character '{character}' looking for beginning of value"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "number"


def _folded(value: Any) -> Any:
    if isinstance(value, list):
        return [_folded(item) for item in value]
    if not isinstance(value, dict):
        return value
    folded = {}
    for key, item in value.items():
        field = key.lower() if key.lower() in _KNOWN else key
        folded[field] = item if field in _MAPS else _folded(item)
    return folded
