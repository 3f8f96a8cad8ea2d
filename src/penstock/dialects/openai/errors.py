"""How OpenAI's API says that something went wrong, in a response and in the middle of a stream."""

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
    """OpenAI's word for the kind of error; an engine's own word for a refusal is kept."""
    if isinstance(error, UpstreamStatus) and error.status < 500:
        if error.status == 429:
            return "requests"
        return error.kind or "invalid_request_error"
    for kind, name in _TYPES:
        if isinstance(error, kind):
            return name
    return "server_error"


def error_object(error: PenstockError) -> bytes:
    """The object that both the body and the stream's last event are made of."""
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


def render_error(error: PenstockError, request_id: str) -> bytes:  # noqa: ARG001
    """The body of an error response; the request's id travels in a header only."""
    return error_object(error)


def error_event(error: PenstockError) -> bytes:
    """The event that ends a stream which broke: no `[DONE]` follows it."""
    return b"data: " + error_object(error) + b"\n\n"


def render_error_event(error: PenstockError) -> bytes:
    """The same behind bytes of an engine that may have stopped in the middle of a line."""
    return b"\n\n" + error_event(error)
