"""Reader of settings files: YAML to located values, with ``${VARIABLE}`` references expanded."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import yaml

from penstock.config.errors import ConfigError, format_key_path
from penstock.config.located_values import Key, LocatedValue, RawText

Lookup: TypeAlias = Callable[[str], str | None]

_REFERENCE = re.compile(r"\$(?:(\$\{)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")
_MAX_DEPTH = 32


def expand_variables(text: str, lookup: Lookup) -> str:
    """Replace ``${NAME}`` and ``${NAME:-default}`` by variables; ``$${`` stands for ``${`` itself.

    An empty variable counts as not set.

    Raises ValueError for a name without a value and for a ``${`` of neither form.
    """

    def expand_reference(match: re.Match[str]) -> str:
        literal, name, default, stray = match.groups()
        if literal:
            return "${"
        if stray:
            raise ValueError('has "${" without a variable in it; write ${NAME}, ${NAME:-default}, or $${ for the text')
        value = lookup(name) or default
        if value is None:
            raise ValueError(f"needs the variable {name}, which is not set; set it, or write ${{{name}:-default}}")
        return value

    return _REFERENCE.sub(expand_reference, text)


def read_yaml(text: str, file: Path, lookup: Lookup) -> tuple[LocatedValue, list[ConfigError]]:
    """Read the text of a settings file; return the tree and the errors.

    Values that cannot be read are reported and left out of the tree. Lines are counted from 1.
    """
    reader = _YamlReader(text, file, lookup)
    return reader.read_root(), reader.errors


class _YamlReader:
    """Converter of one YAML document. YAML's own nodes are walked because they know their lines."""

    def __init__(self, text: str, file: Path, lookup: Lookup) -> None:
        self.errors: list[ConfigError] = []
        self._text = text
        self._file = file
        self._lookup = lookup
        self._ancestors: set[int] = set()
        """Identities of the nodes being converted, to detect aliases of a parent."""

    def read_root(self) -> LocatedValue:
        empty = LocatedValue({}, f"file {self._file}:1")
        root = self._compose_root()
        if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
            return empty
        line = root.start_mark.line + 1
        if not isinstance(root, yaml.MappingNode):
            self._add_error((), line, "must consist of sections such as server: and llm:")
            return empty
        return self._convert_node(root, (), line) or empty

    def _compose_root(self) -> yaml.Node | None:
        try:
            self._loader = yaml.SafeLoader(self._text)
            root: yaml.Node | None = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            self._add_error((), line, f"is not valid YAML: {error.problem or error.context}")
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._add_error((), line, f"is not valid YAML: it contains the character {error.character!r}")
        except RecursionError:
            self._add_error((), 1, "is not valid YAML: it is nested too deeply")
        else:
            return root
        return None

    def _add_error(self, path: tuple[Key, ...], line: int, message: str) -> None:
        self.errors.append(ConfigError(format_key_path(path), f"file {self._file}:{line}", message))

    def _convert_node(self, node: yaml.Node, path: tuple[Key, ...], line: int) -> LocatedValue | None:
        if id(node) in self._ancestors:
            self._add_error(path, line, "contains itself through a YAML alias")
            return None
        if len(path) > _MAX_DEPTH:
            self._add_error(path[:3], line, f"is nested too deeply; at most {_MAX_DEPTH} levels are allowed")
            return None
        if not isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":map", ":seq")):
            self._add_error(path, line, f"has the tag {node.tag}, which is not supported")
            return None
        self._ancestors.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._convert_mapping(node, path, line)
            if isinstance(node, yaml.SequenceNode):
                return self._convert_sequence(node, path, line)
            return self._convert_scalar(node, path, line)
        finally:
            self._ancestors.discard(id(node))

    def _convert_mapping(self, node: yaml.MappingNode, path: tuple[Key, ...], line: int) -> LocatedValue:
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            key_line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._add_error(path, key_line, "has a key that is not text")
            elif key.value in first_lines and key.value != "<<":
                first = first_lines[key.value]
                self._add_error((*path, key.value), key_line, f"is set twice; it is set in line {first} already")
            else:
                first_lines[key.value] = key_line
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self._add_error(path, line, f"is not valid YAML: {error.problem}")
            return LocatedValue({}, f"file {self._file}:{line}", path)
        children: dict[str, LocatedValue] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                child = self._convert_node(value, (*path, key.value), key.start_mark.line + 1)
                if child is not None:
                    children[key.value] = child
        return LocatedValue(children, f"file {self._file}:{line}", path)

    def _convert_sequence(self, node: yaml.SequenceNode, path: tuple[Key, ...], line: int) -> LocatedValue:
        items = (
            self._convert_node(item, (*path, index), item.start_mark.line + 1) for index, item in enumerate(node.value)
        )
        return LocatedValue([item for item in items if item is not None], f"file {self._file}:{line}", path)

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
