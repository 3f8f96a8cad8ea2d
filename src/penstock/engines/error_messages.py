"""Messages in the error responses of model servers."""

from typing import Any

import msgspec

from penstock.domain.errors import PenstockError, UpstreamError
from penstock.engines.json_fields import DECODE_ERRORS

MAX_MESSAGE = 2000
"""Characters of a server's message that are passed on."""


def decode_error_body(body: bytes) -> Any:
    """Decode the JSON of an error body. Return other bodies as text, an HTML page as an empty string."""
    try:
        return msgspec.json.decode(body)
    except DECODE_ERRORS:
        text = body[: 2 * MAX_MESSAGE].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else text


def shorten_message(message: str) -> str:
    """Return the message as one line of at most `MAX_MESSAGE` characters."""
    return " ".join(message.split())[:MAX_MESSAGE]


def as_upstream_error(error: PenstockError, title: str) -> UpstreamError:
    """Return the error of a probe as an UpstreamError, whose message names the server's kind."""
    return error if isinstance(error, UpstreamError) else UpstreamError(f"{title}: {error.message}")
