"""Error responses of OpenAI-compatible servers, in their various formats."""

import re
from typing import Any

from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    RequestRefused,
    Unsupported,
    UpstreamError,
    UpstreamStatus,
)
from penstock.engines.error_messages import decode_error_body, shorten_message
from penstock.engines.failure_words import KEY_WORDS, is_refusal
from penstock.engines.json_fields import as_text

_NO_ROUTE_MESSAGES = frozenset({"not found", "file not found", "method not allowed"})

# vLLM: "maximum context length is 2048 tokens. However, you requested 3000 tokens (2900 in the messages, …)", "… your
# request has 2900 input tokens", "You passed 2900 input tokens … the model's context length is only 2048 tokens";
# llama.cpp: "request (2900 tokens) exceeds the available context size (2048 tokens)".
_CONTEXT_LENGTH = re.compile(
    r"(?:maximum context length (?:is|of)|context length is only|maximum model length of|available context size|"
    r"context window of|max_model_len)[ =(]*(\d+)",
    re.IGNORECASE,
)
_REQUESTED_TOKENS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"max_tokens=(\d+) cannot be greater",
        r"for a total of (?:at least )?(\d+)",
        r"you requested (\d+) tokens",
        r"(\d+) input tokens",
        r"request \((\d+) tokens\)",
        r"prompt \(length (\d+)\)",
        r"(?:resulted in|contains|you passed) (?:at least )?(\d+) tokens",
    )
)
_UNSUPPORTED = re.compile(
    r"input is not supported|is not a multimodal model|only 'text' content type|enable-auto-tool-choice|"
    r"tool-call-parser|(?:tool|function) calling is not (?:supported|enabled)|does not support (?:tool|function|image|"
    r"audio|vision|chat|embedding)|must be created with embedding=True|without a chat template",
    re.IGNORECASE,
)
_CONTEXT_EXCEEDED = re.compile(
    r"context_length_exceeded|exceed_context_size|exceeds? the (?:available )?context|maximum context length|"
    r"context length is only|maximum model length|cannot be greater than max_model_len",
    re.IGNORECASE,
)


_REFUSING_KINDS = frozenset({"invalid_request_error", "BadRequestError", "exceed_context_size_error"})
"""Types of errors that speak of the request, whatever the status."""


class _ErrorDetails:
    """Parts of an error, whatever its format."""

    def __init__(self, body: bytes) -> None:
        self.message = ""
        self.kind = ""
        self.param: str | None = None
        self.code: Any = None
        self.requested_tokens = self.context_length = 0
        self._parse(decode_error_body(body))
        self.message = shorten_message(self.message)

    def _parse(self, value: Any) -> None:
        if isinstance(value, str):
            self.message = value
        if not isinstance(value, dict):
            return
        error = value.get("error", value)
        if isinstance(error, str):
            error = value | {"message": error}
        if not isinstance(error, dict):
            return
        self.message = _format_message(error.get("message") or error.get("detail") or value.get("detail"))
        self.kind = as_text(error.get("type"))
        self.param = as_text(error.get("param")).removeprefix("body.") or None
        self.code = error.get("code")
        self.requested_tokens = _as_integer(error.get("n_prompt_tokens"))
        self.context_length = _as_integer(error.get("n_ctx"))


def parse_error_response(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """Return the error that an error response means."""
    details = _ErrorDetails(body)
    has_no_route = details.message.lower() in _NO_ROUTE_MESSAGES
    if status == 401 or (status == 403 and (not details.message or KEY_WORDS.search(details.message))):
        return UpstreamError(f"{title} rejected the gateway's key. Check the `api_key` of this server.")
    if status == 501 or _UNSUPPORTED.search(details.message) or (status in {404, 405} and has_no_route):
        reason = "" if has_no_route else details.message
        return Unsupported(f"{title} does not support this: {reason or 'It has no such route.'}")
    if _is_context_exceeded(details):
        return _context_exceeded(details, title)
    if status == 404:
        return ModelNotFound(details.message or f"{title} does not have this model.", param="model")
    message = details.message or f"{title} answered with status {status} and no reason. Look at its log."
    if status >= 500 and _is_request_refused(details):
        return RequestRefused(message, status=status, kind=details.kind or None, param=details.param)
    if status >= 500:
        message = f"{title} failed: {message}" if details.message else message
    return UpstreamStatus(
        message, status=status, kind=details.kind or None, param=details.param, retry_after=retry_after
    )


def parse_stream_error(data: bytes, title: str) -> PenstockError:
    """Return the error in an event of a stream, or in a body with status 200."""
    details = _ErrorDetails(data)
    status = details.code if isinstance(details.code, int) and 400 <= details.code < 600 else 500
    if status < 500:
        return parse_error_response(status, data, None, title)
    if _is_request_refused(details) or _is_context_exceeded(details):
        return parse_error_response(status, data, None, title)
    return UpstreamError(f"{title} failed: {details.message or 'It gave no reason. Look at its log.'}")


def extract_message(body: bytes) -> str:
    """Return the message in an error body, an empty string if there is none."""
    return _ErrorDetails(body).message


def _is_request_refused(details: _ErrorDetails) -> bool:
    return details.kind in _REFUSING_KINDS or is_refusal(details.message)


def _is_context_exceeded(details: _ErrorDetails) -> bool:
    return any(_CONTEXT_EXCEEDED.search(text) for text in (details.message, details.kind, as_text(details.code)))


def _context_exceeded(details: _ErrorDetails, title: str) -> ContextLengthExceeded:
    limit = details.context_length or _find_number(_CONTEXT_LENGTH, details.message)
    numbers = (_find_number(pattern, details.message) for pattern in _REQUESTED_TOKENS)
    requested = details.requested_tokens or next(filter(None, numbers), 0)
    if requested > limit > 0:  # else the server counted characters, or the numbers mean something else
        return ContextLengthExceeded(
            f"The request has {requested} tokens, but the model's context is {limit}. "
            "Shorten the conversation or request fewer tokens.",
            param="messages",
        )
    message = details.message or f"The request is too long for the model on {title}. Shorten it."
    return ContextLengthExceeded(message, param="messages")


def _find_number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0


def _format_message(value: Any) -> str:
    if isinstance(value, list):  # FastAPI's list of validation errors
        return "; ".join(map(_format_validation_error, value))
    if isinstance(value, dict):
        return _format_message(value.get("message") or value.get("msg"))
    return as_text(value)


def _format_validation_error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    steps = error.get("loc")
    path = ".".join(str(step) for step in steps if step != "body") if isinstance(steps, list) else ""
    return f"{path}: {error.get('msg', '')}" if path else str(error.get("msg", ""))


def _as_integer(value: Any) -> int:
    return value if isinstance(value, int) else 0
