"""Settings as a tree in which every value knows where it was written; reading YAML into it, laying one over another."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from penstock.config.errors import ConfigError, format_key_path

Lookup: TypeAlias = Callable[[str], str | None]
Key: TypeAlias = str | int

_REFERENCE = re.compile(r"\$(?:(\$\{)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")
_MAX_DEPTH = 32


class RawText(str):
    """A value from a place that knows only text: it may stand for a number or a flag."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LocatedValue:
    """A scalar, a list of nodes or a mapping to nodes; where it was said, under which key it is to be found."""

    value: Any
    source: str
    path: tuple[Key, ...] = ()

    def to_plain(self) -> Any:
        """The same without the places."""
        if isinstance(self.value, dict):
            return {key: node.to_plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.to_plain() for node in self.value]
        return self.value

    def find(self, keys: Sequence[Key]) -> "LocatedValue | None":
        """The node at `keys`, if it was written."""
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
        """A copy that lacks what is at `keys`."""
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
            kept = [(index, node) for index, node in enumerate(self.value) if rest or index != key]
            return LocatedValue([n.copy_without(rest) if i == key else n for i, n in kept], self.source, self.path)
        return self


def merge_trees(lower: LocatedValue, upper: LocatedValue) -> LocatedValue:
    """Lay `upper` over `lower`: sections are united, anything else is replaced."""
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    united = dict(lower.value)
    for key, node in upper.value.items():
        united[key] = merge_trees(united[key], node) if key in united else node
    return LocatedValue(united, lower.source, lower.path)


def build_nested(keys: Sequence[str], value: object, source: str) -> LocatedValue:
    """A tree with one value in it; lists and sections in the value become nodes."""
    node = _from_plain(value, source, tuple(keys))
    for depth in range(len(keys) - 1, -1, -1):
        node = LocatedValue({keys[depth]: node}, source, tuple(keys[:depth]))
    return node


def _from_plain(value: object, source: str, path: tuple[Key, ...]) -> LocatedValue:
    if isinstance(value, Mapping):
        return LocatedValue({key: _from_plain(item, source, (*path, key)) for key, item in value.items()}, source, path)
    if isinstance(value, list):
        return LocatedValue(
            [_from_plain(item, source, (*path, index)) for index, item in enumerate(value)], source, path
        )
    return LocatedValue(value, source, path)


def expand_variables(text: str, lookup: Lookup) -> str:
    """Put variables in place of ``${NAME}`` and ``${NAME:-default}``; ``$${`` stands for ``${`` itself.

    An empty variable is one that is not set.

    Raises ValueError for a name without a value and for a ``${`` that is neither form.
    """

    def replace(match: re.Match[str]) -> str:
        literal, name, default, stray = match.groups()
        if literal:
            return "${"
        if stray:
            raise ValueError('has "${" without a variable in it; write ${NAME}, ${NAME:-default}, or $${ for the text')
        value = lookup(name) or default
        if value is None:
            raise ValueError(f"needs the variable {name}, which is not set; set it, or write ${{{name}:-default}}")
        return value

    return _REFERENCE.sub(replace, text)


def read_yaml(text: str, file: Path, lookup: Lookup) -> tuple[LocatedValue, list[ConfigError]]:
    """Read a settings file. What cannot be read is left out of the tree and reported; lines are counted from 1."""
    reader = _Reader(text, file, lookup)
    return reader.read_root(), reader.errors


class _Reader:
    def __init__(self, text: str, file: Path, lookup: Lookup) -> None:
        self.errors: list[ConfigError] = []
        self._text = text
        self._file = file
        self._lookup = lookup
        self._ancestors: set[int] = set()

    def read_root(self) -> LocatedValue:
        empty = LocatedValue({}, f"file {self._file}:1")
        try:
            self._loader = yaml.SafeLoader(self._text)
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            self._add_error((), line, f"is not YAML: {error.problem or error.context}")
            return empty
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._add_error((), line, f"is not YAML: has the character {error.character!r}")
            return empty
        except RecursionError:
            self._add_error((), 1, "is not YAML: nested too deeply")
            return empty
        if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
            return empty
        if not isinstance(root, yaml.MappingNode):
            self._add_error((), root.start_mark.line + 1, "must be sections of keys, such as server: and llm:")
            return empty
        return self._convert_node(root, (), root.start_mark.line + 1) or empty

    def _add_error(self, path: tuple[Key, ...], line: int, message: str) -> None:
        self.errors.append(ConfigError(format_key_path(path), f"file {self._file}:{line}", message))

    def _convert_node(self, node: yaml.Node, path: tuple[Key, ...], line: int) -> LocatedValue | None:
        if id(node) in self._ancestors:
            self._add_error(path, line, "contains itself through a YAML alias")
            return None
        if len(path) > _MAX_DEPTH:
            self._add_error(path[:3], line, "is nested too deeply")
            return None
        if not isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":map", ":seq")):
            self._add_error(path, line, f"has the tag {node.tag}, which means nothing here")
            return None
        self._ancestors.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._convert_mapping(node, path, line)
            if isinstance(node, yaml.SequenceNode):
                items = (
                    self._convert_node(item, (*path, i), item.start_mark.line + 1) for i, item in enumerate(node.value)
                )
                return LocatedValue([item for item in items if item is not None], f"file {self._file}:{line}", path)
            return self._convert_scalar(node, path, line)
        finally:
            self._ancestors.discard(id(node))

    def _convert_mapping(self, node: yaml.MappingNode, path: tuple[Key, ...], line: int) -> LocatedValue:
        written: dict[str, int] = {}
        for key, _ in node.value:
            here = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._add_error(path, here, "has a key that is not text")
            elif key.value in written and key.value != "<<":
                self._add_error((*path, key.value), here, f"is written twice; first in line {written[key.value]}")
            else:
                written[key.value] = here
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self._add_error(path, line, f"is not YAML: {error.problem}")
            return LocatedValue({}, f"file {self._file}:{line}", path)
        children: dict[str, LocatedValue] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                child = self._convert_node(value, (*path, key.value), key.start_mark.line + 1)
                if child is not None:
                    children[key.value] = child
        return LocatedValue(children, f"file {self._file}:{line}", path)

    def _convert_scalar(self, node: yaml.Node, path: tuple[Key, ...], line: int) -> LocatedValue | None:
        try:
            value = self._loader.construct_object(node)
            if isinstance(value, str) and "$" in value:
                expanded = expand_variables(value, self._lookup)
                value = RawText(expanded) if "${" in value else expanded
        except (yaml.YAMLError, ValueError) as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._add_error(path, line, str(reason))
            return None
        return LocatedValue(value, f"file {self._file}:{line}", path)
