"""Validation before routing: ambiguous framing that llhttp accepts (request smuggling), and size limits."""

import re

from penstock.domain.errors import BodyTooLarge, InvalidRequest, PenstockError
from penstock.http1.limits import MAX_HEAD_BYTES
from penstock.http1.status_lines import STATUS_LINES

HeaderLines = list[tuple[bytes, bytes]]


def check_head(version: str, headers: HeaderLines) -> None:
    """Raise InvalidRequest if the addressed host or the end of the request is ambiguous."""
    is_http11 = version == "1.1"
    if not is_http11 and version != "1.0":
        raise InvalidRequest(f"This gateway speaks HTTP/1.1 and HTTP/1.0, not HTTP/{version}.")
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(hosts) > 1 or (is_http11 and not hosts):
        raise InvalidRequest("A request must have exactly one Host header.")
    if codings and (not is_http11 or [coding.strip().lower() for coding in codings] != [b"chunked"]):
        raise InvalidRequest("The only supported transfer coding is chunked, in HTTP/1.1, applied once.")


def check_head_size(url: bytes, headers: HeaderLines) -> None:
    """Raise InvalidRequest if a head is larger than the limit."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD_BYTES:
        raise create_head_size_error()


def render_without_upgrade(method: bytes, url: bytes, headers: HeaderLines) -> bytes:
    """Render a request head again without its Upgrade; return b"" if it has none, or asks for WebSocket."""
    upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
    if not upgrades or (method == b"GET" and upgrades == [b"websocket"]):
        return b""
    kept = [line for line in headers if line[0] not in (b"upgrade", b"connection", b"http2-settings")]
    if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
        kept.append((b"connection", b"close"))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, url, b"".join(b"%b: %b\r\n" % line for line in kept))


def render_error_response(error: PenstockError) -> bytes:
    """Render a response (RFC 9457) to a request that belongs to no dialect; the connection is closed after it."""
    status = STATUS_LINES[error.status]
    body = b'{"type":"about:blank","title":"%b","status":%d,"code":"%b","detail":"%b"}' % (
        status[13:-2], error.status, error.code.encode(),
        re.sub(rb'[^ !#-\[\]-~]', b"?", error.message.encode()),
    )  # fmt: skip
    head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
    return b"%b%b\r\n%b" % (status, head, body)


def create_head_size_error() -> InvalidRequest:
    """Return the error for a head that is larger than the limit."""
    return InvalidRequest(f"The request head is over {MAX_HEAD_BYTES} bytes; send fewer or shorter headers.")


def create_body_size_error(limit: int) -> BodyTooLarge:
    """Return the error for a body of more than `limit` bytes."""
    return BodyTooLarge(f"The request body is over {limit} bytes; send a smaller one or raise server.max_body.")


def parse_seconds(value: bytes | None) -> float | None:
    """Return a header's number of seconds, or None if it is not one."""
    try:
        seconds = float(value or b"")
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < 1e9 else None
