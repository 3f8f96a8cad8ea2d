"""Requests that llama-server, which runs Ollama's models, refuses by itself."""

from collections.abc import Iterator
from typing import Any

from penstock.sim.kinds.ollama.handler import OllamaError
from penstock.sim.kinds.ollama.prompt import ContextWindow, build_runner_error
from penstock.sim.openai.request import Prompt

_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_NESTED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


def check_runner_request(prompt: Prompt, window: ContextWindow, options: dict[str, Any], schema: Any) -> None:
    """Raise OllamaError for a prompt, a schema or a sampling option that llama-server refuses."""
    for path, kind in find_unknown_types(schema, "#"):
        raise build_runner_error(
            400,
            "Field 'json_schema': \"json_schema\": JSON schema conversion failed:\n"
            f"JSON schema error at {path}: unrecognized type {kind}",
            "invalid_request_error",
        )
    if prompt.tokens >= window.runner_tokens:
        raise window.overflow_error(prompt.tokens)
    penalty = options.get("repeat_penalty")
    if isinstance(penalty, int | float) and penalty <= 0:
        raise build_runner_error(
            400,
            "Failed to initialize samplers: penalty_repeat must be finite and greater than 0",
            "invalid_request_error",
        )


def refuse_images(*, native: bool) -> OllamaError:
    """Build the error for images on a model that cannot see; `native` if llama-server applies the chat template."""
    if native:
        message = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
        return build_runner_error(500, message, "server_error")
    message = "Multimodal data provided, but model does not support multimodal requests."
    return build_runner_error(400, message, "invalid_request_error")


def refuse_streamed_logprobs() -> OllamaError:
    return build_runner_error(400, "logprobs is not supported with tools + stream", "invalid_request_error")


def find_unknown_types(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, type) of each part of a JSON Schema whose type does not exist."""
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if isinstance(kind, str) and kind not in _TYPES:
            yield path, kind
    for key in _NESTED:
        named = schema.get(key)
        for name, part in named.items() if isinstance(named, dict) else ():
            yield from find_unknown_types(part, f"{path}/{key}/{name}")
    for key in _LISTED:
        parts = schema.get(key)
        for at, part in enumerate(parts if isinstance(parts, list) else ()):
            yield from find_unknown_types(part, f"{path}/{key}/{at}")
    yield from find_unknown_types(schema.get("items"), f"{path}/items")
