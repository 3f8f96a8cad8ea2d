"""Validation of a tree of settings against the schema, with an error message for everything that is wrong."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.config.errors import ConfigError, find_nearest, format_key_path, suggest_name
from penstock.config.file_schema import SECRETS, SettingsFile
from penstock.config.located_values import Key, LocatedValue
from penstock.config.server_address import mask_credentials

_MESSAGES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a section of keys",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be an integer",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list such as [a, b]",
    "missing": "is missing",
    "model_type": "must be a section of keys",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text in quotes",
    "too_short": "must not be empty",
    "value_error": "{error}",
}
_PATTERNS = {
    "database_url": "must begin with postgresql:// or sqlite://",
    "redis_url": "must begin with redis:// or rediss://",
}


def validate_tree(
    tree: LocatedValue, schema: type[SettingsFile]
) -> tuple[SettingsFile, LocatedValue, list[ConfigError]]:
    """Validate `tree`; return the settings file, the valid part of the tree, and the errors in the rest."""
    errors: list[ConfigError] = []
    for _ in range(10):
        try:
            return schema.model_validate(tree.to_plain()), tree, errors
        except ValidationError as error:
            details = error.errors(include_url=False)
        # Only those of the first round: later ones follow from the removal of values.
        errors = errors or [_build_error(tree, schema, detail) for detail in details]
        for keys in sorted((_find_removable(tree, detail) for detail in details), key=_reading_order, reverse=True):
            tree = tree.copy_without(keys)
    return schema(), LocatedValue({}, tree.source), errors


def _build_error(tree: LocatedValue, schema: type[SettingsFile], detail: ErrorDetails) -> ConfigError:
    keys = _find_keys(detail)
    node = tree.find(keys)
    nearest = node or _find_closest(tree, keys)
    path = format_key_path(node.path if node else (*nearest.path, *keys[-1:]))
    return ConfigError(path, nearest.source, _describe_problem(keys, schema, detail))


def _describe_problem(keys: tuple[Key, ...], schema: type[SettingsFile], detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    name = str(keys[-1]) if keys else ""
    if kind == "extra_forbidden":
        return f"is not a known key; {_suggest_key(keys, schema)}"
    if kind == "literal_error":
        return _describe_choices(detail)
    if kind == "string_pattern_mismatch":
        return _PATTERNS[name]
    text = _MESSAGES.get(kind, detail["msg"]).format_map(context)
    return text if kind == "missing" or name in SECRETS else f"{text}{_quote_input(detail['input'])}"


def _describe_choices(detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    names = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
    close = find_nearest(str(detail["input"]), names)
    hint = f'; did you mean "{close}"?' if close else ""
    return f"must be one of {', '.join(names)}, not {_format_input(detail['input'])}{hint}"


def _suggest_key(keys: tuple[Key, ...], schema: type[SettingsFile]) -> str:
    name = str(keys[-1])
    known = list_keys(schema, keys[:-1])
    if not find_nearest(name, known):
        elsewhere = [path for path in _list_paths(schema) if path.endswith(f".{name}")]
        if elsewhere:
            return f"it belongs to {' or '.join(elsewhere)}"
    return suggest_name(name, known)


def _quote_input(value: Any) -> str:
    return "" if isinstance(value, dict | list) or value in ("", None) else f", not {_format_input(value)}"


def _format_input(value: Any) -> str:
    if isinstance(value, str):
        value = mask_credentials(value)
    elif isinstance(value, bool):
        value = str(value).lower()
    return repr(value if not isinstance(value, str) or len(value) <= 80 else value[:77] + "...")


def _find_keys(detail: ErrorDetails) -> tuple[Key, ...]:
    return tuple(key for key in detail["loc"] if key != "[key]")


def _find_closest(tree: LocatedValue, keys: tuple[Key, ...]) -> LocatedValue:
    for length in range(len(keys), 0, -1):
        if node := tree.find(keys[:length]):
            return node
    return tree


def _find_removable(tree: LocatedValue, detail: ErrorDetails) -> tuple[Key, ...]:
    """Find what to remove so that the rest is valid: the value itself, or the entry that lacks something."""
    keys = _find_keys(detail)
    return keys if tree.find(keys) else keys[:-1]


def _reading_order(keys: tuple[Key, ...]) -> list[tuple[int, str]]:
    return [(key, "") if isinstance(key, int) else (-1, key) for key in keys]


def list_keys(schema: type[SettingsFile], path: tuple[Key, ...]) -> list[str]:
    """List the keys of the section at `path`; empty where any name is allowed."""
    model: Any = schema
    for key in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(key))
            model = _unwrap_type(field.annotation) if field else None
        else:
            inner = get_args(model)
            model = _unwrap_type(inner[-1]) if inner else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _unwrap_type(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _unwrap_type(get_args(annotation)[0])
    if get_origin(annotation) in (UnionType, Union):
        return _unwrap_type(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation


def _list_paths(model: type[BaseModel], parent: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _unwrap_type(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _list_paths(inner, f"{parent}{name}.")
        else:
            yield f"{parent}{name}"
