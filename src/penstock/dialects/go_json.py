"""JSON as Ollama's server decodes it, its error messages, and string encoding that is safe for its clients.

Go's decoder is more lenient than msgspec: it matches keys regardless of case, ignores what follows the first value,
and replaces invalid UTF-8 by U+FFFD. Bodies that msgspec rejects are normalized here, off the hot path.
"""

import json
import re
from typing import Any

import msgspec

from penstock.domain.errors import InvalidRequest
from penstock.domain.unicode_repair import repair_unicode

_encode = msgspec.json.encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_needs_escaping = re.compile("[<>&\x85\u2028\u2029]").search

_FIELDS = """
    model name stream messages keep_alive options prompt suffix raw system template context images format think truncate
    shift logprobs top_logprobs tools role content thinking tool_calls tool_name tool_call_id id function arguments
    index type description parameters input dimensions source destination server resume from files adapters license
    quantize insecure username password modelfile
"""
_KNOWN_FIELDS = frozenset(_FIELDS.split())
# Go ignores the case of struct fields only, not of map keys, which the client chooses.
_MAPS = frozenset({"options", "arguments", "parameters", "format", "files", "adapters", "info"})
_POSITION = re.compile(r"\(byte (\d+)\)")
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


def encode_string(text: str) -> bytes:
    """Encode a text as a JSON string that every client reads as one line.

    The Python client splits lines like `str.splitlines`, so non-ASCII line separators are escaped; `<`, `>` and `&`
    are escaped because Go does it.
    """
    try:
        encoded = _encode(text)
    except UnicodeEncodeError:
        encoded = _encode(text.encode("utf-8", "replace").decode())
    if _needs_escaping(text) is None:
        return encoded
    encoded = encoded.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return escape_line_separators(encoded)


def escape_line_separators(encoded: bytes) -> bytes:
    """Escape non-ASCII line separators in JSON, where they occur only inside strings."""
    if encoded.isascii():
        return encoded
    encoded = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return encoded.replace(b"\xc2\x85", b"\\u0085")


def normalize_body(body: bytes, go_type: str) -> bytes:
    """Return the body in a form that a strict decoder accepts. Raises InvalidRequest with Ollama's message.

    `go_type` is the name of Ollama's type, e.g. `ChatRequest`.
    """
    if not body.strip(b" \t\r\n"):
        raise InvalidRequest("missing request body")
    repaired = repair_unicode(body)
    try:
        value = _decode_first_value(repaired)
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_describe_syntax_error(error, repaired)) from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"json: cannot unmarshal {_name_json_type(value)} into Go value of type api.{go_type}")
    fields = [key.casefold() for key in value]
    if len(set(fields)) < len(fields):
        value = _select_last_fields(value, repaired)
    try:
        return _encode(_lowercase_fields(value))
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None


def fold_keys(body: bytes) -> bytes:
    """Return an object with its fields of a request in small letters; the values stay as they are.

    Of several keys for one field the last one counts, as for Ollama. A body that is not one object stays unchanged.
    """
    try:
        value = _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if all(key in _KNOWN_FIELDS or key.casefold() not in _KNOWN_FIELDS for key in value):
        return body
    return _encode(_select_last_fields(value, body))


def type_error(error: msgspec.ValidationError, go_type: str) -> InvalidRequest:
    """Return Ollama's error for a field of the wrong type."""
    match = _EXPECTED.search(str(error))
    if match is None:
        return InvalidRequest(str(error))
    expected, actual, path = match[1].removesuffix(" | null"), match[2], re.sub(r"\[[^]]*]", "", match[3] or "")
    if path.startswith("options."):
        return InvalidRequest(
            f'option "{path[8:]}" must be of type {_OPTION_TYPES.get(expected, expected)}', param=path
        )
    go_target = _GO_FIELDS.get(path) or _GO_TYPES.get(expected, expected)
    location = f"struct field {go_type}.{path}" if path else "value"
    kind = _GO_KINDS.get(actual, actual)
    return InvalidRequest(f"json: cannot unmarshal {kind} into Go {location} of type {go_target}", param=path or None)


def decode_body(decoder: "msgspec.json.Decoder[Any]", body: bytes, go_type: str) -> Any:
    """Decode strictly and, if that fails, leniently. Raises InvalidRequest."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_lenient(decoder, body, go_type)


def decode_lenient(decoder: "msgspec.json.Decoder[Any]", body: bytes, go_type: str) -> Any:
    """Decode as leniently as Ollama. Raises InvalidRequest."""
    try:
        return decoder.decode(normalize_body(body, go_type))
    except msgspec.ValidationError as error:
        raise type_error(error, go_type) from None


def _decode_first_value(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if "trailing characters" not in str(error) or not (position := _POSITION.search(str(error))):
            raise
        return msgspec.json.decode(body[: int(position[1]) - 1])  # the position is the one after the character


def _select_last_fields(value: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return the fields that count where several keys differ only in case: the last one that is not null.

    `value` is the decoded body, in which the order of repeated keys is lost.
    """
    spellings: dict[str, str] = {}

    def note_order(pairs: list[tuple[str, Any]]) -> list[str]:
        spellings.clear()  # the outermost object comes last
        for key, item in pairs:
            field = key.casefold() if key.casefold() in _KNOWN_FIELDS else key
            if item is not None or field not in spellings:
                spellings[field] = key
        return []

    decoder = json.JSONDecoder(object_pairs_hook=note_order, parse_int=str, parse_float=str, strict=False)
    try:
        decoder.raw_decode(body.decode().lstrip())
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    return {field: value[key] for field, key in spellings.items()}


def _describe_syntax_error(error: msgspec.DecodeError, body: bytes) -> str:
    position = _POSITION.search(str(error))
    if "truncated" in str(error) or position is None:
        return "unexpected EOF"
    character = body[int(position[1]) :].decode("utf-8", "replace")[:1]
    return f"invalid character '{character}' looking for beginning of value"


def _name_json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "number"


def _lowercase_fields(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowercase_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    lowercased = {}
    for key, item in value.items():
        field = key.casefold() if key.casefold() in _KNOWN_FIELDS else key
        lowercased[field] = item if field in _MAPS else _lowercase_fields(item)
    return lowercased
