"""Anthropic's error format, in a response and at the end of a stream."""

import msgspec

from penstock.domain.errors import PenstockError, Unavailable

# https://docs.anthropic.com/en/api/errors, and `ErrorType` of the official client
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(error: PenstockError) -> str:
    """Return Anthropic's name for the kind of error."""
    if isinstance(error, Unavailable) and not error.retryable:
        return "api_error"
    return _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")


def render_error(error: PenstockError, request_id: str) -> bytes:
    """Render the body of an error response."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": error_type(error), "message": error.message},
            "request_id": request_id or None,
        }
    )


def render_error_event(error: PenstockError, request_id: str = "") -> bytes:
    """Render the last event of an interrupted stream."""
    return b"event: error\ndata: " + render_error(error, request_id) + b"\n\n"
