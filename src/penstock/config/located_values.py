"""Settings as a tree in which every value knows where it was written; reading YAML into it, laying one over another."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from penstock.config.errors import Mistake, key_path

Lookup: TypeAlias = Callable[[str], str | None]
Key: TypeAlias = str | int

_REFERENCE = re.compile(r"\$(?:(\$\{)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")
_DEEPEST = 32


class Text(str):
    """A value from a place that knows only text: it may stand for a number or a flag."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list of nodes or a mapping to nodes; where it was said, under which key it is to be found."""

    value: Any
    source: str
    path: tuple[Key, ...] = ()

    def plain(self) -> Any:
        """The same without the places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, keys: Sequence[Key]) -> "Node | None":
        """The node at `keys`, if it was written."""
        node: Node | None = self
        for key in keys:
            if node is None or not isinstance(node.value, dict | list):
                return None
            if isinstance(node.value, dict):
                node = node.value.get(key)
            else:
                node = node.value[key] if isinstance(key, int) and key < len(node.value) else None
        return node

    def without(self, keys: Sequence[Key]) -> "Node":
        """A copy that lacks what is at `keys`."""
        if not keys:
            return Node({}, self.source, self.path)
        key, rest = keys[0], keys[1:]
        if isinstance(self.value, dict):
            children = dict(self.value)
            if key in children:
                child = children.pop(key)
                if rest:
                    children[key] = child.without(rest)
            return Node(children, self.source, self.path)
        if isinstance(self.value, list) and isinstance(key, int):
            kept = [(index, node) for index, node in enumerate(self.value) if rest or index != key]
            return Node([n.without(rest) if i == key else n for i, n in kept], self.source, self.path)
        return self


def merge(lower: Node, upper: Node) -> Node:
    """Lay `upper` over `lower`: sections are united, anything else is replaced."""
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    united = dict(lower.value)
    for key, node in upper.value.items():
        united[key] = merge(united[key], node) if key in united else node
    return Node(united, lower.source, lower.path)


def branch(keys: Sequence[str], value: object, source: str) -> Node:
    """A tree with one value in it; lists and sections in the value become nodes."""
    node = _grow(value, source, tuple(keys))
    for depth in range(len(keys) - 1, -1, -1):
        node = Node({keys[depth]: node}, source, tuple(keys[:depth]))
    return node


def _grow(value: object, source: str, path: tuple[Key, ...]) -> Node:
    if isinstance(value, Mapping):
        return Node({key: _grow(item, source, (*path, key)) for key, item in value.items()}, source, path)
    if isinstance(value, list):
        return Node([_grow(item, source, (*path, index)) for index, item in enumerate(value)], source, path)
    return Node(value, source, path)


def expand(text: str, lookup: Lookup) -> str:
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


def read_yaml(text: str, file: Path, lookup: Lookup) -> tuple[Node, list[Mistake]]:
    """Read a settings file. What cannot be read is left out of the tree and reported; lines are counted from 1."""
    reader = _Reader(text, file, lookup)
    return reader.read(), reader.mistakes


class _Reader:
    def __init__(self, text: str, file: Path, lookup: Lookup) -> None:
        self.mistakes: list[Mistake] = []
        self._text = text
        self._file = file
        self._lookup = lookup
        self._open: set[int] = set()

    def read(self) -> Node:
        empty = Node({}, f"file {self._file}:1")
        try:
            self._loader = yaml.SafeLoader(self._text)
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            self._mistake((), line, f"is not YAML: {error.problem or error.context}")
            return empty
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._mistake((), line, f"is not YAML: has the character {error.character!r}")
            return empty
        except RecursionError:
            self._mistake((), 1, "is not YAML: nested too deeply")
            return empty
        if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
            return empty
        if not isinstance(root, yaml.MappingNode):
            self._mistake((), root.start_mark.line + 1, "must be sections of keys, such as server: and llm:")
            return empty
        return self._convert(root, (), root.start_mark.line + 1) or empty

    def _mistake(self, path: tuple[Key, ...], line: int, message: str) -> None:
        self.mistakes.append(Mistake(key_path(path), f"file {self._file}:{line}", message))

    def _convert(self, node: yaml.Node, path: tuple[Key, ...], line: int) -> Node | None:
        if id(node) in self._open:
            self._mistake(path, line, "contains itself through a YAML alias")
            return None
        if len(path) > _DEEPEST:
            self._mistake(path[:3], line, "is nested too deeply")
            return None
        if not isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":map", ":seq")):
            self._mistake(path, line, f"has the tag {node.tag}, which means nothing here")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path, line)
            if isinstance(node, yaml.SequenceNode):
                items = (self._convert(item, (*path, i), item.start_mark.line + 1) for i, item in enumerate(node.value))
                return Node([item for item in items if item is not None], f"file {self._file}:{line}", path)
            return self._scalar(node, path, line)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: tuple[Key, ...], line: int) -> Node:
        written: dict[str, int] = {}
        for key, _ in node.value:
            here = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._mistake(path, here, "has a key that is not text")
            elif key.value in written and key.value != "<<":
                self._mistake((*path, key.value), here, f"is written twice; first in line {written[key.value]}")
            else:
                written[key.value] = here
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self._mistake(path, line, f"is not YAML: {error.problem}")
            return Node({}, f"file {self._file}:{line}", path)
        children: dict[str, Node] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                child = self._convert(value, (*path, key.value), key.start_mark.line + 1)
                if child is not None:
                    children[key.value] = child
        return Node(children, f"file {self._file}:{line}", path)

    def _scalar(self, node: yaml.Node, path: tuple[Key, ...], line: int) -> Node | None:
        try:
            value = self._loader.construct_object(node)
            if isinstance(value, str) and "$" in value:
                expanded = expand(value, self._lookup)
                value = Text(expanded) if "${" in value else expanded
        except (yaml.YAMLError, ValueError) as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._mistake(path, line, str(reason))
            return None
        return Node(value, f"file {self._file}:{line}", path)
