"""Tools of the Responses API as functions, the only tools that models have, and their calls mapped back.

Namespaces are flattened. A custom tool, whose input is a text, becomes a function with one text argument; the local
shell becomes a function with the arguments of its action. Tools that OpenAI's own servers run are left out.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.json_body import field_error, missing_field
from penstock.dialects.openai_responses import schema
from penstock.domain.content import Tool

CUSTOM, FUNCTION, LOCAL_SHELL = "custom", "function", "local_shell"
INPUT_ARGUMENT = "input"
_MAX_NAME = 64
_INPUT_SCHEMA = b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}'
_SHELL_SCHEMA = (
    b'{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}},'
    b'"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"}},"required":["command"]}'
)


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool that the client runs: `function` is what the model gets, `name` and `namespace` are the client's."""

    function: Tool
    kind: str
    name: str
    namespace: str = ""


def declare_tools(tools: Iterable[schema.Tool], ignored: list[str]) -> dict[str, DeclaredTool]:
    """Return the tools by the name of their function; `ignored` gets the names of tools that are left out."""
    declared: dict[str, DeclaredTool] = {}
    for tool in _iterate_tools(tools, "", "tools", ignored):
        declared.setdefault(tool.function.name, tool)
    return declared


def flatten_name(namespace: str | None, name: str) -> str:
    """Return the name of a function in a namespace, at most 64 characters long."""
    if not namespace:
        return name
    flat = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    if len(flat) <= _MAX_NAME:
        return flat
    digest = hashlib.sha256(flat.encode()).hexdigest()[:8]
    return f"{flat[: _MAX_NAME - 9]}_{digest}"


def _iterate_tools(
    tools: Iterable[schema.Tool], namespace: str, path: str, ignored: list[str]
) -> Iterator[DeclaredTool]:
    for at, tool in enumerate(tools):
        tool_path = f"{path}.{at}"
        match tool.type:
            case "namespace":
                yield from _iterate_tools(tool.tools or (), tool.name, f"{tool_path}.tools", ignored)
            case "function" | "custom":
                if not tool.name:
                    raise missing_field(f"{tool_path}.name")
                yield DeclaredTool(_build_function(tool, namespace, tool_path), tool.type, tool.name, namespace)
            case "local_shell":
                function = Tool(LOCAL_SHELL, "Runs a command on the user's machine.", _SHELL_SCHEMA)
                yield DeclaredTool(function, LOCAL_SHELL, LOCAL_SHELL)
            case other:
                ignored.append(f"tools.{other}")


def _build_function(tool: schema.Tool, namespace: str, path: str) -> Tool:
    name, description = flatten_name(namespace, tool.name), tool.description or ""
    if tool.type == CUSTOM:
        if tool.format is not None and tool.format.definition:
            description += f"\n\nThe input follows this {tool.format.syntax} grammar:\n{tool.format.definition}"
        return Tool(name, description, _INPUT_SCHEMA)
    parameters = bytes(tool.parameters) or b"null"
    if parameters != b"null" and not parameters.startswith(b"{"):
        raise field_error(f"{path}.parameters", "must be an object")
    return Tool(name, description, b"" if parameters == b"null" else parameters, tool.strict)


def encode_custom_input(text: str) -> str:
    """Encode the input of a custom tool as the arguments of its function."""
    return msgspec.json.encode({INPUT_ARGUMENT: text}).decode()


def decode_custom_input(arguments: str) -> str:
    """Return the input of a custom tool. Arguments of another shape are the input themselves."""
    value = _decode_arguments(arguments).get(INPUT_ARGUMENT)
    return value if isinstance(value, str) else arguments


def build_shell_action(arguments: str) -> dict[str, Any]:
    """Return the action of a call of the local shell."""
    given = _decode_arguments(arguments)
    command = given.get("command")
    if isinstance(command, str):
        command = ["bash", "-lc", command]
    action: dict[str, Any] = {"type": "exec", "command": command if isinstance(command, list) else [], "env": {}}
    return action | {name: given[name] for name in ("working_directory", "timeout_ms") if name in given}


def _decode_arguments(arguments: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
