"""What the MLX API server says when it fails, as errors of ours."""

from typing import Any

import msgspec

from penstock.domain.errors import ModelNotFound, PenstockError, UpstreamError, UpstreamStatus

_LONGEST = 2000  # characters of an engine's sentence that are worth passing on


def read_failure(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """The error that an error response tells of: `{"error": …}`, or FastAPI's `{"detail": …}`."""
    said = _sentence(_parsed(body))
    if status in {401, 403}:
        return UpstreamError(f"The {title} refused the gateway's key: check the `api_key` of this server.")
    if status == 404:
        # FastAPI says just this of a path that it does not have.
        missing = "model" in said.lower()
        message = said if missing else f"The {title} does not know this path: update it, or check its address."
        return ModelNotFound(message, param="model") if missing else UpstreamStatus(message, status=404)
    if status in {429, 503, 504}:
        busy = f"The {title} is busy{': ' + said if said else ''}; try again in a moment."
        return UpstreamStatus(busy, status=status, kind="busy", retry_after=retry_after)
    message = said or f"The {title} answered with status {status} and no reason: look at its log."
    return UpstreamStatus(message, status=status, retry_after=retry_after)


def stream_error(said: bytes, title: str) -> PenstockError:
    """The error that a line of a stream tells of; `said` is the JSON of its `error`."""
    return UpstreamError(f"The {title} failed: {_sentence(_parsed(said)) or 'it gave no reason, look at its log'}")


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[: 2 * _LONGEST].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else text


def _sentence(said: Any) -> str:
    if isinstance(said, dict):
        return _sentence(next((said[key] for key in ("error", "detail", "message", "msg") if said.get(key)), ""))
    if isinstance(said, list):
        return "; ".join(filter(None, map(_sentence, said)))
    return " ".join(said.split())[:_LONGEST] if isinstance(said, str) else ""
