"""The record of the effective settings: each key, its value with secrets masked, and where it was said."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel

from penstock.config.errors import key_path
from penstock.config.file_schema import SECRETS, File
from penstock.config.located_values import Key, Node
from penstock.config.server_address import mask_credentials
from penstock.config.settings import Provenance

Derived: TypeAlias = dict[str, tuple[object, str]]


def describe(file: File, tree: Node, derived: Mapping[str, tuple[object, str]]) -> dict[str, Provenance]:
    """Every key of the schema and every entry of its lists; `derived` are values that follow from others."""
    record: dict[str, Provenance] = {}
    for keys, value in _leaves(file, ()):
        node = tree.find(keys)
        path = key_path(node.path if node else keys)
        if path in derived:
            effective, source = derived[path]
            record[path] = Provenance(shown(keys, effective), source)
        else:
            said = node is not None and node.value is not None
            record[path] = Provenance(shown(keys, value), node.source if node and said else "default")
    return record


def _leaves(value: Any, keys: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), (*keys, name))
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        for index, item in enumerate(value):
            yield from _leaves(item, (*keys, index))
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*keys, name))
    else:
        yield keys, value


def shown(keys: tuple[Key, ...], value: object) -> str:
    """The value as people write it, without secrets."""
    if value is None:
        return "not set"
    if keys[-1] in SECRETS:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(shown(keys, item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    if "webhooks" in keys and keys[-1] == "url":
        return f"{urlsplit(str(value)).scheme}://{urlsplit(str(value)).hostname}/***"  # such paths are passwords
    text = str(value)
    return mask_credentials(text) if "url" in str(keys[-1]) or "://" in text else text
