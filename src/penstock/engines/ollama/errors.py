"""What Ollama says when it fails, as errors of ours: in a response, in a stream's line, or as JSON within its text."""

import re
from typing import Any

import msgspec

from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    Unsupported,
    UpstreamCut,
    UpstreamError,
    UpstreamStatus,
)

_LONGEST = 2000  # characters of an engine's sentence that are worth passing on
_OVERFLOW = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_TOO_LONG = re.compile(
    r"exceeds the (?:available )?context|longer than the context length|exceed_context_size", re.IGNORECASE
)
_CANNOT = re.compile(
    r"does not support |only supports one image|image input is not supported|models are not currently supported"
)
_NO_MODEL = re.compile(r"^model ['\"].*['\"] not found|^model not found|file does not exist$")


class _Told:
    """An error text, unwrapped: since 0.30 llama-server's own JSON may stand in it as a string."""

    def __init__(self, said: Any) -> None:
        self.message, self.kind, self.status = "", "", 0
        self.asked = self.limit = 0
        for _ in range(4):
            if isinstance(said, str) and said.lstrip()[:1] == "{":
                inner = _parsed(said.encode("utf-8", "replace"))
                said = said if inner is None else inner
            if not isinstance(said, dict):
                break
            self._note(said)
            said = next((said[key] for key in ("error", "message", "detail") if said.get(key)), "")
        self.message = " ".join(said.split())[:_LONGEST] if isinstance(said, str) else ""
        if match := _OVERFLOW.search(self.message):
            self.asked, self.limit = self.asked or int(match[1]), self.limit or int(match[2])

    def _note(self, said: dict[str, Any]) -> None:
        kind, code = said.get("type"), said.get("code")
        self.kind = kind if isinstance(kind, str) else self.kind
        self.status = code if isinstance(code, int) and 400 <= code < 600 else self.status
        asked, limit = said.get("n_prompt_tokens"), said.get("n_ctx")
        self.asked = asked if isinstance(asked, int) else self.asked
        self.limit = limit if isinstance(limit, int) else self.limit


def read_failure(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """The error that an error response tells of."""
    said = _parsed(body)
    text = body[: 2 * _LONGEST].decode("utf-8", "replace").strip()
    if said is None and text.startswith(("404 page not found", "405 method not allowed")):
        return UpstreamError(f"{title} does not know this path: update it, or look whether its address is right.")
    told = _Told(text if said is None and not text.startswith("<") else said)
    return _error(told, status, retry_after, title)


def stream_error(said: bytes, title: str) -> PenstockError:
    """The error that a line of a stream tells of; `said` is the JSON of its `error`."""
    told = _Told(_parsed(said))
    busy = 503 if told.message.startswith("server busy") else 500
    missing = 404 if _NO_MODEL.search(told.message) else busy
    return _error(told, told.status or missing, None, title)


def _error(told: _Told, status: int, retry_after: float | None, title: str) -> PenstockError:
    message = told.message or f"{title} answered with status {status} and no reason: look at its log."
    if told.kind == "exceed_context_size_error" or _TOO_LONG.search(message):
        return _too_long(told, message)
    if status in {401, 403} and "cloud" not in message:
        return UpstreamError(
            f"{title} refused the gateway ({message}): check this server's `api_key`, OLLAMA_ORIGINS, "
            "or whether it is signed in to ollama.com."
        )
    if _CANNOT.search(message):
        return Unsupported(f"{title}: {message}")
    if status == 404:
        return ModelNotFound(message, param="model")
    if status == 499:
        return UpstreamCut(f"{title} gave the request up: {message}")
    return UpstreamStatus(message, status=status, kind=told.kind or None, retry_after=retry_after)


def _too_long(told: _Told, message: str) -> ContextLengthExceeded:
    if told.asked and told.limit:
        return ContextLengthExceeded(
            f"The request needs {told.asked} tokens, and the model's context holds {told.limit}: "
            "shorten the conversation or raise num_ctx.",
            param="messages",
        )
    return ContextLengthExceeded(message, param="messages")


def _parsed(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
