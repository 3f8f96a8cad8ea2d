"""Ollama's request fields: the structs, and the values that have rules of their own (durations, think, options)."""

import math
import re
from typing import Any

from penstock.sim.kinds.ollama.go_json import BadBodyError, Struct

_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_THINK = '"high", "medium", "low", "max", true, or false'

_INTEGERS = frozenset(
    (
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
    )
)
_FLOATS = frozenset(
    ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")
)
# A request with other values of these options reloads the model.
_LOAD_TIME = ("num_ctx", "num_batch", "num_thread", "main_gpu", "use_mmap", "draft_num_predict")


class BadOptionError(ValueError):
    """An option has the wrong type; Ollama answers 500."""


def keep_alive(value: Any) -> float:
    """Parse keep_alive into seconds; infinite for anything negative."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        name = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}.get(type(value), "unknown")
        raise BadBodyError(f"Unsupported type: '{name}'")
    seconds = parse_duration(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def parse_duration(text: str) -> float:
    """Parse a Go duration (`1h30m`, `300ms`, `0`) into seconds."""
    if text.lstrip("+-") == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        numeric = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text)
        problem = "missing unit in duration" if numeric else "invalid duration"
        raise BadBodyError(f'time: {problem} "{text}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def parse_think(value: Any) -> bool | str:
    if isinstance(value, str) and value not in {"high", "medium", "low", "max"}:
        raise BadBodyError(f'invalid think value: "{value}" (must be {_THINK})')
    if not isinstance(value, bool | str):
        raise BadBodyError(f"think must be a boolean or string ({_THINK})")
    return value


FUNCTION = Struct("ToolFunction", {"name": "string", "description": "string", "parameters": "interface {}"})
TOOL = Struct("Tool", {"type": "string", "function": FUNCTION})
CALLED = Struct("ToolCallFunction", {"index": "int", "name": "string", "arguments": "map[string]interface {}"})
MESSAGE = Struct(
    "Message",
    {
        "role": "string",
        "content": "string",
        "thinking": "string",
        "images": ["string"],
        "tool_calls": [Struct("ToolCall", {"id": "string", "function": CALLED})],
        "tool_name": "string",
        "tool_call_id": "string",
    },
)
_COMMON = {
    "model": "string",
    "stream": "bool",
    "options": "map[string]interface {}",
    "format": "interface {}",
    "keep_alive": keep_alive,
    "think": parse_think,
    "truncate": "bool",
    "shift": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
}
CHAT = Struct("ChatRequest", {**_COMMON, "messages": [MESSAGE], "tools": [TOOL]})
GENERATE = Struct(
    "GenerateRequest",
    {
        **_COMMON,
        "prompt": "string",
        "suffix": "string",
        "system": "string",
        "template": "string",
        "context": ["int"],
        "raw": "bool",
        "images": ["string"],
    },
)
EMBED = Struct(
    "EmbedRequest",
    {
        "model": "string",
        "input": "interface {}",
        "truncate": "bool",
        "dimensions": "int",
        "options": "map[string]interface {}",
        "keep_alive": keep_alive,
    },
)
EMBEDDINGS = Struct(
    "EmbeddingRequest",
    {"model": "string", "prompt": "string", "options": "map[string]interface {}", "keep_alive": keep_alive},
)
SHOW = Struct(
    "ShowRequest",
    {"model": "string", "name": "string", "verbose": "bool", "system": "string", "options": "map[string]interface {}"},
)
NAMED = {"model": "string", "name": "string"}
DELETE = Struct("DeleteRequest", NAMED)
COPY = Struct("CopyRequest", {"source": "string", "destination": "string"})
PULL = Struct("PullRequest", {**NAMED, "insecure": "bool", "stream": "bool"})
PUSH = Struct("PushRequest", {**NAMED, "insecure": "bool", "stream": "bool"})
CREATE = Struct(
    "CreateRequest",
    {
        **NAMED,
        "stream": "bool",
        "from": "string",
        "files": "map[string]string",
        "adapters": "map[string]string",
        "template": "string",
        "license": "interface {}",
        "system": "string",
        "parameters": "map[string]interface {}",
        "messages": [MESSAGE],
        "quantize": "string",
    },
)


def check_options(options: dict[str, Any]) -> None:
    """Raise BadOptionError for a known option of the wrong type; unknown options pass."""
    for name, value in options.items():
        if value is None:
            continue
        if name in _INTEGERS and not _is_number(value):
            raise BadOptionError(f'option "{name}" must be of type integer')
        if name in _FLOATS and not _is_number(value):
            raise BadOptionError(f'option "{name}" must be of type float32')
        if name == "use_mmap" and not isinstance(value, bool):
            raise BadOptionError(f'option "{name}" must be of type boolean')
        if name == "stop":
            if not isinstance(value, list):
                raise BadOptionError(f'option "{name}" must be of type array')
            if not all(isinstance(word, str) for word in value):
                raise BadOptionError(f'option "{name}" must be of an array of strings')


def integer_option(options: dict[str, Any], name: str) -> int | None:
    """Return the integer part of an option, or None."""
    value = options.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def load_parameters(options: dict[str, Any], shift: bool | None) -> tuple[Any, ...]:
    """Return the options that a model is loaded with; two requests that differ here cannot share a loaded model."""
    return (*(options.get(name) for name in _LOAD_TIME), shift is not False)


def read_format(value: Any) -> Any:
    """Return None for free text, True for any JSON object, else the schema. Raises BadOptionError for anything else."""
    if value is None or value == "":
        return None
    if value == "json":
        return True
    if isinstance(value, dict):
        return value
    quoted = f'"{value}"' if isinstance(value, str) else str(value).lower()
    escaped = quoted.replace('"', '\\"')
    raise BadOptionError(f'invalid format: "{escaped}"; expected "json" or a valid JSON Schema object')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
