"""Requests that are not let in: what llhttp lets pass and two parsers may read differently, and what is too much."""

import re

from penstock.domain.errors import BodyTooLarge, InvalidRequest, PenstockError
from penstock.http1.limits import MAX_HEAD_BYTES
from penstock.http1.status_lines import STATUS_LINES

HeaderLines = list[tuple[bytes, bytes]]


def check_head(version: str, lines: HeaderLines) -> None:
    """Raise InvalidRequest when a head does not say beyond doubt for whom its request is and where it ends."""
    http11 = version == "1.1"
    if not http11 and version != "1.0":
        raise InvalidRequest("this gateway speaks HTTP/1.1 and HTTP/1.0")
    hosts = [value for name, value in lines if name == b"host"]
    codings = [value for name, value in lines if name == b"transfer-encoding"]
    if len(hosts) > 1 or (http11 and not hosts):
        raise InvalidRequest("a request has one Host header")
    if codings and (not http11 or [coding.strip().lower() for coding in codings] != [b"chunked"]):
        raise InvalidRequest("the only transfer coding understood is chunked, in HTTP/1.1, once")


def check_size(url: bytes, lines: HeaderLines) -> None:
    """Raise InvalidRequest when a head is larger than is taken."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in lines) > MAX_HEAD_BYTES:
        raise head_too_large()


def without_upgrade(method: bytes, url: bytes, lines: HeaderLines) -> bytes:
    """The head of a request without its offer to speak another protocol; b"" when it makes none, or WebSocket's."""
    offers = [value.lower() for name, value in lines if name == b"upgrade"]
    if not offers or (method == b"GET" and offers == [b"websocket"]):
        return b""
    kept = [line for line in lines if line[0] not in (b"upgrade", b"connection", b"http2-settings")]
    if any(name == b"connection" and b"close" in value.lower() for name, value in lines):
        kept.append((b"connection", b"close"))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, url, b"".join(b"%b: %b\r\n" % line for line in kept))


def response(error: PenstockError) -> bytes:
    """A whole answer to what is no request, or not one of any dialect; the connection is closed after it."""
    status = STATUS_LINES[error.status]
    body = b'{"type":"about:blank","title":"%b","status":%d,"code":"%b","detail":"%b"}' % (
        status[13:-2], error.status, error.code.encode(),
        re.sub(rb'[^ !#-\[\]-~]', b"?", error.message.encode()),
    )  # fmt: skip
    head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
    return b"%b%b\r\n%b" % (status, head, body)


def head_too_large() -> InvalidRequest:
    """The error for a head that is larger than is taken."""
    return InvalidRequest(f"the head of the request is over {MAX_HEAD_BYTES} bytes")


def body_too_large(limit: int) -> BodyTooLarge:
    """The error for a body of more than `limit` bytes."""
    return BodyTooLarge(f"the request body is over {limit} bytes (server.max_body)")
