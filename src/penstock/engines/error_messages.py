"""Messages in the error responses of model servers."""

import re
from typing import Any

import msgspec

from penstock.domain.errors import PenstockError, UpstreamError
from penstock.engines.json_fields import DECODE_ERRORS

MAX_MESSAGE = 2000
"""Characters of a server's message that are passed on."""


_ROLE_REFUSAL = re.compile(
    r"system message must be|system messages? (?:is|are) only|(?:unexpected|unknown|invalid|unsupported)[a-z ]* role"
    r"|roles must alternate|role[\s\S]{0,40}developer|developer[\s\S]{0,40}role|only (?:user|system)[a-z, ]*roles? ",
    re.IGNORECASE,
)


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


def is_role_refusal(message: str) -> bool:
    """Return whether a server has refused the roles of a chat's messages, as chat templates do."""
    return bool(_ROLE_REFUSAL.search(message))
