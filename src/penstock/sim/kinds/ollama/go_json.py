"""Decoding of request bodies as Go's encoding/json does it.

Keys in any case, null as absent, anything after the first value ignored, and Go's error messages.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_SKELETON = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}"]', re.DOTALL)
_SPACE = b" \t\r\n"


class BadBodyError(ValueError):
    """The body does not match the struct; the message is Go's."""


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct: field names to their types.

    A type is a Go type's name, a Struct, a list holding the element's type, or a function that reads the value or
    raises BadBodyError.
    """

    name: str
    fields: Mapping[str, Any]


Reader = Callable[[Any], Any]


def decode_fields(body: bytes, struct: Struct) -> dict[str, Any]:
    """Decode the fields that are present in the body, by the struct's names. Raises BadBodyError."""
    value = _parse_body(body)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBodyError(f"json: cannot unmarshal {_go_type_name(value)} into Go value of type api.{struct.name}")
    return _decode_object(value, struct, struct.name)


def _decode_object(value: dict[str, Any], struct: Struct, path: str) -> dict[str, Any]:
    names = {name.lower(): name for name in struct.fields}
    taken: dict[str, Any] = {}
    for key, given in value.items():
        name = names.get(key.lower())
        if name is not None and given is not None:
            taken[name] = _convert_value(given, struct.fields[name], f"{path}.{name}")
    return taken


def _convert_value(value: Any, wanted: Any, path: str) -> Any:
    if isinstance(wanted, Struct):
        if not isinstance(value, dict):
            raise _type_mismatch(value, path, f"api.{wanted.name}")
        return _decode_object(value, wanted, path)
    if isinstance(wanted, list):
        (inner,) = wanted
        if not isinstance(value, list):
            raise _type_mismatch(value, path, f"[]api.{inner.name}" if isinstance(inner, Struct) else f"[]{inner}")
        return [_convert_value(entry, inner, path) for entry in value if entry is not None]
    if callable(wanted):
        return wanted(value)
    if not _FITS[wanted](value):
        raise _type_mismatch(value, path, wanted)
    return value


_FITS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "map[string]interface {}": lambda value: isinstance(value, dict),
    "map[string]string": lambda value: isinstance(value, dict),
    "interface {}": lambda _value: True,
}


def _type_mismatch(value: Any, path: str, wanted: str) -> BadBodyError:
    return BadBodyError(f"json: cannot unmarshal {_go_type_name(value)} into Go struct field {path} of type {wanted}")


def _go_type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind, word in ((str, "string"), (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return word
    return "number"


def _parse_body(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    first = _first_value(body.decode("utf-8", "replace").encode())
    try:
        return msgspec.json.decode(first)
    except msgspec.DecodeError as error:
        digits = str(error).rpartition("byte ")[2].rstrip(")")
        if not digits.isdigit():
            raise BadBodyError("unexpected EOF") from None
        at = min(int(digits), len(first) - 1)
        raise BadBodyError(
            f"invalid character '{first[at:].decode(errors='replace')[0]}' {_describe_context(first[:at])}"
        ) from None


def _first_value(body: bytes) -> bytes:
    """Return the bytes of the first JSON value, balanced but not yet validated."""
    body = body.lstrip(_SPACE)
    if not body:
        raise BadBodyError("missing request body")
    if body[:1] not in b"{[":
        ending = re.search(rb'(?<=[^\\])"|[\s,}\]]' if body[:1] == b'"' else rb"[\s,}\]]", body[1:])
        return body if ending is None else body[: ending.start() + (2 if body[:1] == b'"' else 1)]
    depth = 0
    for match in _SKELETON.finditer(body):
        sign = match[0]
        if sign == b'"':
            break
        depth += (sign in b"{[") - (sign in b"}]") if len(sign) == 1 else 0
        if depth == 0:
            return body[: match.end()]
    _check_beginning(body)
    raise BadBodyError("unexpected EOF")


def _check_beginning(body: bytes) -> None:
    """Raise the error that a truncated body has before its end, if any."""
    wrong = re.match(rb"\{\s*([^\s\"}])", body)
    if wrong:
        raise BadBodyError(
            f"invalid character '{wrong[1].decode('latin-1')}' looking for beginning of object key string"
        )


def _describe_context(before: bytes) -> str:
    open_brackets: list[bytes] = []
    for match in _SKELETON.finditer(before):
        if match[0] in (b"{", b"["):
            open_brackets.append(match[0])
        elif match[0] in (b"}", b"]") and open_brackets:
            open_brackets.pop()
    inside = open_brackets[-1:] or [b""]
    last = before.rstrip(_SPACE)[-1:]
    if last in (b"", b":", b"["):
        return "looking for beginning of value"
    if last in (b"{", b","):
        return "looking for beginning of value" if inside == [b"["] else "looking for beginning of object key string"
    if inside == [b"{"]:
        key = re.search(rb'[{,]\s*"(?:[^"\\]|\\.)*"$', before.rstrip(_SPACE))
        return "after object key" if key else "after object key:value pair"
    return "after array element" if inside == [b"["] else "after top-level value"
