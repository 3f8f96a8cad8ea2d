"""What OpenAI-compatible servers say when they fail, in every shape they have for it, as errors of ours."""

import re
from typing import Any

import msgspec

from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    Unsupported,
    UpstreamError,
    UpstreamStatus,
)

_LONGEST = 2000  # characters of an engine's sentence that are worth passing on
_NO_ROUTE = frozenset({"not found", "file not found", "method not allowed"})

# vLLM: "maximum context length is 2048 tokens. However, you requested 3000 tokens (2900 in the messages, …)", "… your
# request has 2900 input tokens", "You passed 2900 input tokens … the model's context length is only 2048 tokens";
# llama.cpp: "request (2900 tokens) exceeds the available context size (2048 tokens)".
_LIMIT = re.compile(
    r"(?:maximum context length (?:is|of)|context length is only|maximum model length of|available context size|"
    r"context window of|max_model_len)[ =(]*(\d+)",
    re.IGNORECASE,
)
_ASKED = tuple(
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
_CANNOT = re.compile(r"input is not supported|is not a multimodal model|only 'text' content type", re.IGNORECASE)
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|exceeds? the (?:available )?context|maximum context length|"
    r"context length is only|maximum model length|cannot be greater than max_model_len",
    re.IGNORECASE,
)


class _Told:
    """An engine's error, whatever its shape was."""

    def __init__(self, body: bytes) -> None:
        self.message = ""
        self.kind = ""
        self.param: str | None = None
        self.code: Any = None
        self.asked = self.limit = 0
        try:
            self._read(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = body[: 2 * _LONGEST].decode("utf-8", "replace").strip()
            self.message = "" if text.startswith("<") else text
        self.message = " ".join(self.message.split())[:_LONGEST]

    def _read(self, told: Any) -> None:
        if isinstance(told, str):
            self.message = told
        if not isinstance(told, dict):
            return
        error = told.get("error", told)
        if isinstance(error, str):
            error = told | {"message": error}
        if not isinstance(error, dict):
            return
        self.message = _sentence(error.get("message") or error.get("detail") or told.get("detail"))
        self.kind = _word(error.get("type"))
        self.param = _word(error.get("param")).removeprefix("body.") or None
        self.code = error.get("code")
        self.asked = _number(error.get("n_prompt_tokens"))
        self.limit = _number(error.get("n_ctx"))


def read_failure(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """The error that an error response tells of."""
    told = _Told(body)
    if status in {401, 403}:
        return UpstreamError(f"{title} refused the gateway's key: check the `api_key` of this server.")
    if status == 501 or _CANNOT.search(told.message) or (status in {404, 405} and told.message.lower() in _NO_ROUTE):
        said = "" if told.message.lower() in _NO_ROUTE else told.message
        return Unsupported(f"{title} cannot do this: {said or 'it has no such route'}")
    if status < 500 and _overflows(told):
        return _too_long(told, title)
    if status == 404:
        return ModelNotFound(told.message or f"{title} does not have this model.", param="model")
    message = told.message or f"{title} answered with status {status} and no reason: look at its log."
    if status >= 500:
        message = f"{title} failed: {message}" if told.message else message
    return UpstreamStatus(message, status=status, kind=told.kind or None, param=told.param, retry_after=retry_after)


def stream_error(data: bytes, title: str) -> PenstockError:
    """The error that an event in the middle of a stream, or a body with status 200, tells of."""
    told = _Told(data)
    status = told.code if isinstance(told.code, int) and 400 <= told.code < 600 else 500
    if status < 500:
        return read_failure(status, data, None, title)
    return UpstreamError(f"{title} failed: {told.message or 'it gave no reason, look at its log.'}")


def sentence(body: bytes) -> str:
    """What an error's body says, "" when it says nothing."""
    return _Told(body).message


def _overflows(told: _Told) -> bool:
    return any(_CONTEXT.search(text) for text in (told.message, told.kind, _word(told.code)))


def _too_long(told: _Told, title: str) -> ContextLengthExceeded:
    limit = told.limit or _first(_LIMIT, told.message)
    asked = told.asked or next(filter(None, (_first(pattern, told.message) for pattern in _ASKED)), 0)
    if asked > limit > 0:  # else it has counted characters, or the numbers are of something else
        return ContextLengthExceeded(
            f"The request needs {asked} tokens, and the model's context holds {limit}: "
            "shorten the conversation or ask for fewer tokens.",
            param="messages",
        )
    return ContextLengthExceeded(told.message or f"The request is too long for the model on {title}.", param="messages")


def _first(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0


def _sentence(told: Any) -> str:
    if isinstance(told, list):  # FastAPI's list of what is wrong
        return "; ".join(_complaint(one) for one in told)
    if isinstance(told, dict):
        return _sentence(told.get("message") or told.get("msg"))
    return told if isinstance(told, str) else ""


def _complaint(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    steps = one.get("loc")
    where = ".".join(str(step) for step in steps if step != "body") if isinstance(steps, list) else ""
    return f"{where}: {one.get('msg', '')}" if where else str(one.get("msg", ""))


def _word(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _number(told: Any) -> int:
    return told if isinstance(told, int) else 0
