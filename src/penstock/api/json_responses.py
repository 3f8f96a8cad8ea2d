"""Request bodies of limited size, and responses whose JSON is rendered already."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.errors import BodyTooLarge

MAX_BODY = 1 << 20
"""Bytes."""


def json_response(body: bytes, status: int = 200) -> Response:
    """Return a response with a rendered JSON body."""
    return Response(body, status, media_type="application/json")


async def read_body(request: Request, max_size: int = MAX_BODY) -> bytes:
    """Read the body; raise BodyTooLarge beyond `max_size` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > max_size:
            raise BodyTooLarge(f"The request body is larger than {max_size} bytes.")
    return b"".join(parts)
