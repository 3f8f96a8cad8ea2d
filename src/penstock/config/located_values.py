"""Tree of settings in which every value carries its source, so that errors can name file and line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Key: TypeAlias = str | int


class RawText(str):
    """A value from a source that has text only (a variable, a ``${...}``): it may stand for a number or a flag."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LocatedValue:
    """A scalar, a list or a mapping of located values, with its source and its key path."""

    value: Any
    source: str
    path: tuple[Key, ...] = ()

    def to_plain(self) -> Any:
        """Return the value without locations."""
        if isinstance(self.value, dict):
            return {key: child.to_plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.to_plain() for child in self.value]
        return self.value

    def find(self, keys: Sequence[Key]) -> "LocatedValue | None":
        """Return the value at `keys`, None when it is not set."""
        node: LocatedValue | None = self
        for key in keys:
            if node is None or not isinstance(node.value, dict | list):
                return None
            if isinstance(node.value, dict):
                node = node.value.get(key)
            else:
                node = node.value[key] if isinstance(key, int) and key < len(node.value) else None
        return node

    def copy_without(self, keys: Sequence[Key]) -> "LocatedValue":
        """Return a copy that lacks the value at `keys`."""
        if not keys:
            return LocatedValue({}, self.source, self.path)
        key, rest = keys[0], keys[1:]
        if isinstance(self.value, dict):
            children = dict(self.value)
            if key in children:
                child = children.pop(key)
                if rest:
                    children[key] = child.copy_without(rest)
            return LocatedValue(children, self.source, self.path)
        if isinstance(self.value, list) and isinstance(key, int):
            kept = [(index, child) for index, child in enumerate(self.value) if rest or index != key]
            items = [child.copy_without(rest) if index == key else child for index, child in kept]
            return LocatedValue(items, self.source, self.path)
        return self


def merge_trees(lower: LocatedValue, upper: LocatedValue) -> LocatedValue:
    """Merge `upper` over `lower`: sections are merged key by key, any other value is replaced."""
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    merged = dict(lower.value)
    for key, child in upper.value.items():
        merged[key] = merge_trees(merged[key], child) if key in merged else child
    return LocatedValue(merged, lower.source, lower.path)


def build_nested(keys: Sequence[str], value: object, source: str) -> LocatedValue:
    """Build a tree that holds only `value` at `keys`; lists and mappings in it become located values."""
    node = _from_plain(value, source, tuple(keys))
    for depth in range(len(keys) - 1, -1, -1):
        node = LocatedValue({keys[depth]: node}, source, tuple(keys[:depth]))
    return node


def _from_plain(value: object, source: str, path: tuple[Key, ...]) -> LocatedValue:
    if isinstance(value, Mapping):
        children = {key: _from_plain(item, source, (*path, key)) for key, item in value.items()}
        return LocatedValue(children, source, path)
    if isinstance(value, list):
        items = [_from_plain(item, source, (*path, index)) for index, item in enumerate(value)]
        return LocatedValue(items, source, path)
    return LocatedValue(value, source, path)
