"""How the console reads small bodies and writes answers that are drawn already."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.errors import BodyTooLarge

MAX_BODY = 1 << 20


def json_response(body: bytes, status: int = 200) -> Response:
    """JSON that is drawn already."""
    return Response(body, status, media_type="application/json")


async def read_body(request: Request, max_size: int = MAX_BODY) -> bytes:
    """The whole body; raises BodyTooLarge beyond `max_size` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > max_size:
            raise BodyTooLarge(f"the request body is over {max_size} bytes")
    return b"".join(parts)
