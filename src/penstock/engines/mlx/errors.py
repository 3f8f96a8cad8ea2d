"""Error responses of the MLX API server."""

from typing import Any

from penstock.domain.errors import ModelNotFound, PenstockError, UpstreamError, UpstreamStatus
from penstock.engines.error_messages import decode_error_body, shorten_message

_MESSAGE_FIELDS = ("error", "detail", "message", "msg")


def parse_error_response(status: int, body: bytes, retry_after: float | None, title: str) -> PenstockError:
    """Return the error that an error response means. Its body is `{"error": …}` or FastAPI's `{"detail": …}`."""
    reason = _find_message(decode_error_body(body))
    if status in {401, 403}:
        return UpstreamError(f"The {title} rejected the gateway's key. Check the `api_key` of this server.")
    if status == 404:
        # FastAPI answers an unknown path with a bare "Not Found".
        is_model_missing = "model" in reason.lower()
        message = (
            reason if is_model_missing else f"The {title} does not have this path. Update it or check its address."
        )
        return ModelNotFound(message, param="model") if is_model_missing else UpstreamStatus(message, status=404)
    if status in {429, 503, 504}:
        busy = f"The {title} is busy{': ' + reason if reason else ''}. Try again in a moment."
        return UpstreamStatus(busy, status=status, kind="busy", retry_after=retry_after)
    message = reason or f"The {title} answered with status {status} and no reason. Look at its log."
    return UpstreamStatus(message, status=status, retry_after=retry_after)


def parse_stream_error(data: bytes, title: str) -> PenstockError:
    """Return the error in a line of a stream; `data` is the JSON of its `error`."""
    reason = _find_message(decode_error_body(data)) or "It gave no reason. Look at its log."
    return UpstreamError(f"The {title} failed: {reason}")


def _find_message(value: Any) -> str:
    if isinstance(value, dict):
        return _find_message(next((value[key] for key in _MESSAGE_FIELDS if value.get(key)), ""))
    if isinstance(value, list):
        return "; ".join(filter(None, map(_find_message, value)))
    return shorten_message(value) if isinstance(value, str) else ""
