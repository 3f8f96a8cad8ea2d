"""The smallest value that a JSON Schema allows, as the answer of a constrained model."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class _Root:
    schema: Any
    word: str
    seen: tuple[str, ...] = field(default=())


def example_of(schema: Any, word: str = "simulated") -> Any:
    """Return a small value that is valid for a JSON Schema: only what it requires. Free strings are `word`."""
    return _example_of(schema, _Root(schema, word))


def _example_of(schema: Any, root: _Root) -> Any:
    if not isinstance(schema, dict):
        return {}
    given, value = _find_literal(schema)
    if given:
        return value
    if isinstance(schema.get("$ref"), str):
        return _resolve_reference(schema["$ref"], root)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _example_of({**_drop_key(schema, key), **_choose_simplest(schema[key])}, root)
    if isinstance(schema.get("allOf"), list):
        return _example_of(_merge_all_of(schema), root)
    maker = _MAKERS.get(_type_of(schema))
    return maker(schema, root) if maker else None


def _find_literal(schema: dict[str, Any]) -> tuple[bool, Any]:
    """Return (True, value) if the schema names a value itself, else (False, None)."""
    for key in ("const", "default"):
        if key in schema:
            return True, schema[key]
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return True, schema[key][0]
    return False, None


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind is None:
        kind = "array" if "items" in schema else "object"
    return str(kind)


def _resolve_reference(reference: str, root: _Root) -> Any:
    if reference in root.seen:
        return {}
    target = root.schema
    for part in reference.lstrip("#").strip("/").split("/"):
        if part and isinstance(target, dict):
            target = target.get(part.replace("~1", "/").replace("~0", "~"), {})
    return _example_of(target, _Root(root.schema, root.word, (*root.seen, reference)))


def _choose_simplest(options: list[Any]) -> dict[str, Any]:
    """Choose an alternative without a reference, if there is one, so that a recursive schema ends."""
    usable = [option for option in options if isinstance(option, dict)]
    return next((option for option in usable if "$ref" not in option), usable[0] if usable else {})


def _drop_key(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _merge_all_of(schema: dict[str, Any]) -> dict[str, Any]:
    merged = _drop_key(schema, "allOf")
    for part in schema["allOf"]:
        if not isinstance(part, dict):
            continue
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", []), *part.get("required", [])]
        merged = {**merged, **part, "properties": properties, "required": required}
    return merged


def _example_object(schema: dict[str, Any], root: _Root) -> Any:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    names = required if isinstance(required, list) else list(properties)
    return {str(name): _example_of(properties.get(name, {"type": "string"}), root) for name in names}


def _example_array(schema: dict[str, Any], root: _Root) -> Any:
    least = schema.get("minItems")
    return [
        _example_of(schema.get("items", {"type": "string"}), root)
        for _ in range(least if isinstance(least, int) else 0)
    ]


def _example_string(schema: dict[str, Any], root: _Root) -> Any:
    shaped = {
        "date-time": "2025-01-01T00:00:00Z",
        "date": "2025-01-01",
        "time": "00:00:00Z",
        "email": "simulated@example.com",
        "uri": "https://example.com/",
        "uuid": "00000000-0000-4000-8000-000000000000",
    }.get(str(schema.get("format")))
    text = shaped or root.word
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int):
        text = text.ljust(least, ".")
    return text[:most] if isinstance(most, int) else text


def _example_number(schema: dict[str, Any], _root: _Root) -> Any:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    value: Any = 0
    if isinstance(low, int | float):
        value = max(value, low)
    if isinstance(above, int | float) and not isinstance(above, bool):
        value = max(value, above + 1)
    if isinstance(high, int | float):
        value = min(value, high)
    if isinstance(below, int | float) and not isinstance(below, bool):
        value = min(value, below - 1)
    return math.ceil(value) if schema.get("type") == "integer" else value


_MAKERS: dict[str, Callable[[dict[str, Any], _Root], Any]] = {
    "object": _example_object,
    "array": _example_array,
    "string": _example_string,
    "integer": _example_number,
    "number": _example_number,
    "boolean": lambda _schema, _root: True,
    "null": lambda _schema, _root: None,
}
