"""OpenAI's error format, in a response and at the end of a stream."""

import msgspec

from penstock.domain.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PenstockError,
    RateLimited,
    Unauthorized,
    UpstreamStatus,
)

_TYPES: tuple[tuple[type[PenstockError], str], ...] = (
    (InvalidRequest, "invalid_request_error"),
    (BodyTooLarge, "invalid_request_error"),
    (NotFound, "invalid_request_error"),
    (MethodNotAllowed, "invalid_request_error"),
    (Unauthorized, "authentication_error"),
    (Forbidden, "permission_error"),
    (RateLimited, "requests"),
)


def error_type(error: PenstockError) -> str:
    """Return OpenAI's name for the kind of error. An engine's own name for a rejection is kept."""
    if isinstance(error, UpstreamStatus) and error.status < 500:
        if error.status == 429:
            return "requests"
        return error.kind or "invalid_request_error"
    for kind, name in _TYPES:
        if isinstance(error, kind):
            return name
    return "server_error"


def render_error(error: PenstockError, request_id: str = "") -> bytes:  # noqa: ARG001
    """Render the body of an error response. The request id is in a header only."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error_type(error),
                "param": error.param,
                "code": error.code,
            }
        }
    )


def render_error_event(error: PenstockError) -> bytes:
    """Render the last event of an interrupted stream; no `[DONE]` follows."""
    return b"data: " + render_error(error) + b"\n\n"


def render_interruption(error: PenstockError) -> bytes:
    """Render the error event for a passed-through stream, which may have stopped in the middle of a line."""
    return b"\n\n" + render_error_event(error)
