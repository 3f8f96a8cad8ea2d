"""Record of the effective settings: each key, its value with secrets masked, and its source."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel

from penstock.config.errors import format_key_path
from penstock.config.file_schema import SECRETS, SettingsFile
from penstock.config.located_values import Key, LocatedValue
from penstock.config.server_address import mask_credentials
from penstock.config.settings import EffectiveValue

Derived: TypeAlias = dict[str, tuple[object, str]]


def describe_settings(
    file: SettingsFile, tree: LocatedValue, derived: Mapping[str, tuple[object, str]]
) -> dict[str, EffectiveValue]:
    """Describe every key of the schema and every entry of its lists.

    `derived` are the values, with their source, that follow from other keys, by key path.
    """
    record: dict[str, EffectiveValue] = {}
    for keys, value in _list_leaves(file, ()):
        node = tree.find(keys)
        path = format_key_path(node.path if node else keys)
        if path in derived:
            effective, source = derived[path]
            record[path] = EffectiveValue(format_value(keys, effective), source)
        else:
            is_set = node is not None and node.value is not None
            record[path] = EffectiveValue(format_value(keys, value), node.source if node and is_set else "default")
    return record


def _list_leaves(value: Any, keys: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _list_leaves(getattr(value, name), (*keys, name))
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        for index, item in enumerate(value):
            yield from _list_leaves(item, (*keys, index))
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _list_leaves(item, (*keys, name))
    else:
        yield keys, value


def format_value(keys: tuple[Key, ...], value: object) -> str:
    """Format the value as people write it, secrets masked."""
    if value is None:
        return "not set"
    if keys[-1] in SECRETS:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(format_value(keys, item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    if "webhooks" in keys and keys[-1] == "url":
        parts = urlsplit(str(value))
        return f"{parts.scheme}://{parts.hostname}/***"  # the path of a webhook is a secret
    text = str(value)
    return mask_credentials(text) if "url" in str(keys[-1]) or "://" in text else text
