"""Decoding of request bodies as Go's encoding/json does it.

Keys in any case, null as absent, anything after the first value ignored, decoding continued after a wrong type, and
Go's error messages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.sim.kinds.ollama.go.scanner import BadBodyError, Float, parse_first_value

__all__ = [
    "BadBodyError",
    "SavedError",
    "Slice",
    "Struct",
    "WrongTypeError",
    "decode_fields",
    "decode_struct",
    "decode_value",
    "describe_kind",
]

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct: field names to their types.

    A type is a Go type's name, a Struct, a Slice, or a function that reads the value or raises BadBodyError.
    """

    name: str
    fields: Mapping[str, Any]
    package: str = "api"

    @property
    def type_name(self) -> str:
        return f"{self.package}.{self.name}"


@dataclass(frozen=True, slots=True)
class Slice:
    """A Go slice: the type of its elements, and its own name in errors."""

    inner: Any
    type_name: str


class WrongTypeError(BadBodyError):
    """Go's UnmarshalTypeError: the value's kind, the wanted type, and the struct and path of the field."""

    def __init__(self, kind: str, wanted: str, struct: str = "", path: str = "") -> None:
        super().__init__(kind, wanted)
        self.kind, self.wanted, self.struct, self.path = kind, wanted, struct, path

    def __str__(self) -> str:
        target = f"struct field {self.struct}.{self.path}" if self.struct or self.path else "value"
        return f"json: cannot unmarshal {self.kind} into Go {target} of type {self.wanted}"


@dataclass(slots=True)
class _Decoding:
    """State of one call of Go's Unmarshal: the place in the structs, and an earlier error, which does not end it."""

    struct: str = ""
    path: list[str] = field(default_factory=list)
    saved: BadBodyError | None = None

    def save_mismatch(self, value: Any, wanted: str) -> None:
        self.save_error(WrongTypeError(describe_kind(value), wanted))

    def save_error(self, error: BadBodyError) -> None:
        if self.saved is None:
            self.saved = self.add_place(error)

    def add_place(self, error: BadBodyError) -> BadBodyError:
        """Add the place to an error that has a field."""
        if isinstance(error, WrongTypeError) and (self.struct or self.path):
            error.struct = self.struct
            error.path = ".".join([*self.path, error.path] if error.path else self.path)
        return error


def decode_fields(body: bytes, struct: Struct) -> dict[str, Any]:
    """Decode the fields that are present in the body, by the struct's names. Raises BadBodyError."""
    try:
        return decode_struct(msgspec.json.decode(body), struct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadBodyError):
        # Slower, but with Go's messages, limits and replacements.
        return decode_struct(parse_first_value(body), struct)


def decode_struct(value: Any, struct: Struct) -> dict[str, Any]:
    """Decode a parsed value into the fields that are present. Raises BadBodyError."""
    decoded: dict[str, Any] = decode_value(value, struct)
    return decoded


def decode_value(value: Any, wanted: Any) -> Any:
    """Decode a parsed value by one call of Go's Unmarshal. Raises BadBodyError."""
    decoding = _Decoding()
    decoded = _decode_value(value, wanted, decoding)
    if decoding.saved is not None:
        raise decoding.saved
    return decoded


def _decode_value(value: Any, wanted: Any, decoding: _Decoding) -> Any:
    if isinstance(wanted, Struct):
        if value is None:
            return {}
        if isinstance(value, dict):
            return _decode_object(value, wanted, decoding)
        decoding.save_mismatch(value, wanted.type_name)
        return {}
    if isinstance(wanted, Slice):
        if isinstance(value, list):
            return [_decode_value(entry, wanted.inner, decoding) for entry in value]
        decoding.save_mismatch(value, wanted.type_name)
        return []
    if callable(wanted):
        try:
            return wanted(value)
        except SavedError as error:
            decoding.save_error(error.cause)
            return None
        except BadBodyError as error:
            raise decoding.add_place(error) from None
    problem = _SCALARS[wanted](value)
    if problem is not None:
        decoding.save_error(WrongTypeError(*problem))
    return _ZEROS.get(wanted) if value is None or problem else value


class SavedError(Exception):
    """An error that does not end the decoding, as a wrong type does not."""

    def __init__(self, cause: BadBodyError) -> None:
        super().__init__(cause)
        self.cause = cause


def _decode_object(value: dict[str, Any], struct: Struct, decoding: _Decoding) -> dict[str, Any]:
    names = {name.lower(): name for name in struct.fields}
    taken: dict[str, Any] = {}
    outer, depth = decoding.struct, len(decoding.path)
    for key, given in value.items():
        name = names.get(key.lower())
        if name is None or given is None:
            continue
        decoding.struct = struct.name
        decoding.path.append(name)
        taken[name] = _decode_value(given, struct.fields[name], decoding)
        decoding.struct = outer
        del decoding.path[depth:]
    return taken


def describe_kind(value: Any) -> str:
    """Name the kind of a value as Go's errors do."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    for kind, word in ((str, "string"), (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return word
    return "number"


def _check_integer(value: Any) -> tuple[str, str] | None:
    if isinstance(value, float):
        return f"number {value.text if isinstance(value, Float) else repr(value)}", "int"
    if isinstance(value, bool) or not isinstance(value, int | None):
        return describe_kind(value), "int"
    if value is not None and not -(2**63) <= value < 2**63:
        return f"number {value}", "int"
    return None


def _check_kind(name: str, kind: type) -> Callable[[Any], tuple[str, str] | None]:
    return lambda value: None if value is None or isinstance(value, kind) else (describe_kind(value), name)


def _check_string_map(value: Any) -> tuple[str, str] | None:
    if value is not None and not isinstance(value, dict):
        return describe_kind(value), "map[string]string"
    wrong = [entry for entry in (value or {}).values() if entry is not None and not isinstance(entry, str)]
    return (describe_kind(wrong[0]), "string") if wrong else None


_MAP = "map[string]interface {}"
_SCALARS: dict[str, Callable[[Any], tuple[str, str] | None]] = {
    "string": _check_kind("string", str),
    "bool": _check_kind("bool", bool),
    "int": _check_integer,
    _MAP: _check_kind(_MAP, dict),
    "map[string]string": _check_string_map,
    "interface {}": lambda _value: None,
}
_ZEROS: dict[str, Any] = {"string": "", "bool": False, "int": 0, _MAP: {}, "map[string]string": {}}
