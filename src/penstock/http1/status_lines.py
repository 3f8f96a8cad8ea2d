"""HTTP/1.1 status lines, rendered once."""

import http

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
OK_LINE = STATUS_LINES[200]


def status_line(status: int) -> bytes:
    """Return the status line of a response, with its line end; the reason is empty for an unregistered status."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
