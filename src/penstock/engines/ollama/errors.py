"""Errors of Ollama: in a response, in a line of a stream, or as JSON within the message."""

import re
from typing import Any

import msgspec

from penstock.domain.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    PenstockError,
    RequestRefused,
    Unsupported,
    UpstreamCut,
    UpstreamError,
    UpstreamStatus,
)
from penstock.engines.error_messages import MAX_MESSAGE, decode_error_body, shorten_message
from penstock.engines.failure_words import KEY_WORDS, is_go_refusal
from penstock.engines.json_fields import DECODE_ERRORS

_MAX_NESTING = 4
_UNKNOWN_PATH = ("404 page not found", "405 method not allowed")
_OVERFLOW = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_TOO_LONG = re.compile(
    r"exceeds the (?:available )?context|longer than the context length|exceed_context_size", re.IGNORECASE
)
_UNSUPPORTED = re.compile(
    r"does not support |only supports one image|image input is not supported|models are not currently supported"
)
_BUSY = re.compile(r"^server busy|maximum pending requests")
_CALLER_ERRORS = (InvalidRequest, ModelNotFound, UpstreamStatus)
"""Errors whose own text the clients of Ollama get; the others concern the gateway and its server."""
_MODEL_NOT_FOUND = re.compile(r"^model ['\"].*['\"] not found|^model not found|file does not exist$")


class _ErrorDetails:
    """Parts of an error. Since Ollama 0.30, llama-server's JSON may be nested in the message as a string."""

    def __init__(self, value: Any) -> None:
        self.message, self.kind, self.status = "", "", 0
        self.prompt_tokens = self.context_length = 0
        for _ in range(_MAX_NESTING):
            if isinstance(value, str) and value.lstrip()[:1] == "{":
                value = _decode_nested(value)
            if not isinstance(value, dict):
                break
            self._add_details(value)
            value = next((value[key] for key in ("error", "message", "detail") if value.get(key)), "")
        self.message = shorten_message(value) if isinstance(value, str) else ""
        if match := _OVERFLOW.search(self.message):
            self.prompt_tokens = self.prompt_tokens or int(match[1])
            self.context_length = self.context_length or int(match[2])

    def _add_details(self, fields: dict[str, Any]) -> None:
        kind, code = fields.get("type"), fields.get("code")
        self.kind = kind if isinstance(kind, str) else self.kind
        self.status = code if isinstance(code, int) and 400 <= code < 600 else self.status
        prompt_tokens, context_length = fields.get("n_prompt_tokens"), fields.get("n_ctx")
        self.prompt_tokens = prompt_tokens if isinstance(prompt_tokens, int) else self.prompt_tokens
        self.context_length = context_length if isinstance(context_length, int) else self.context_length


def parse_error_response(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """Return the error that an error response means."""
    value = decode_error_body(body)
    if isinstance(value, str) and value.startswith(_UNKNOWN_PATH):
        return UpstreamError(f"{title} does not have this path. Update it or check its address.")
    error = _build_error(_ErrorDetails(value), status, retry_after, title)
    own_text = value.get("error") if isinstance(value, dict) else None
    if isinstance(own_text, str) and isinstance(error, _CALLER_ERRORS):
        error.engine_message = own_text[:MAX_MESSAGE]
    return error


def parse_stream_error(data: bytes, title: str) -> PenstockError:
    """Return the error in a line of a stream; `data` is the JSON of its `error`."""
    details = _ErrorDetails(decode_error_body(data))
    status = details.status
    if not status and _MODEL_NOT_FOUND.search(details.message):
        status = 404
    elif not status:
        status = 503 if _BUSY.search(details.message) else 500
    return _build_error(details, status, None, title)


def _build_error(details: _ErrorDetails, status: int, retry_after: float | None, title: str) -> PenstockError:
    message = details.message or f"{title} answered with status {status} and no reason. Look at its log."
    if details.kind == "exceed_context_size_error" or _TOO_LONG.search(message):
        return _context_exceeded(details, message)
    is_access_denied = status == 401 or (status == 403 and (not details.message or KEY_WORDS.search(message)))
    if is_access_denied and "cloud" not in message:
        return UpstreamError(
            f"{title} rejected the gateway ({message}). Check this server's `api_key`, OLLAMA_ORIGINS, "
            "and whether it is signed in to ollama.com."
        )
    if _UNSUPPORTED.search(message):
        return Unsupported(f"{title}: {message}")
    if status == 404:
        return ModelNotFound(message, param="model")
    if status >= 500 and is_go_refusal(details.message):
        return RequestRefused(message, status=status, kind=details.kind or None)
    if status == 499:
        return UpstreamCut(f"{title} abandoned the request: {message}")
    return UpstreamStatus(message, status=status, kind=details.kind or None, retry_after=retry_after)


def _context_exceeded(details: _ErrorDetails, message: str) -> ContextLengthExceeded:
    if details.prompt_tokens and details.context_length:
        return ContextLengthExceeded(
            f"The request has {details.prompt_tokens} tokens, which exceeds the available context size of "
            f"{details.context_length} tokens (exceed_context_size_error). Shorten the conversation or raise num_ctx.",
            param="messages",
        )
    return ContextLengthExceeded(message, param="messages")


def _decode_nested(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except DECODE_ERRORS:
        return text
