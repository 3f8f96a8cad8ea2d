"""Base of relays: they bring a server's response to the client.

A relay is the sink of one attempt, and the outcome to await: None when the complete response has been delivered, else
the error that stopped it. While `client.response_started` is False nothing has reached the client and another server
may be tried; after that a relay has already ended the client's stream with an error in its dialect.
"""

import logging

from penstock.domain.errors import ClientStalled, PenstockError, UpstreamGarbage, UpstreamTimeout
from penstock.domain.request import Operation
from penstock.domain.response import Usage
from penstock.gateway.coroutine_runner import Outcome
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.transport.connection import Connection
from penstock.gateway.upstream.transport.response_sink import Headers
from penstock.http1.retry_after import parse_retry_after

log = logging.getLogger(__name__)

JSON_CONTENT_TYPE = b"application/json"
USUAL_CONTENT_TYPES = frozenset(
    (JSON_CONTENT_TYPE, b"application/json; charset=utf-8", b"text/event-stream", b"application/x-ndjson")
)
_SAFE_CONTENT_TYPES = (
    JSON_CONTENT_TYPE, b"application/x-ndjson", b"application/jsonl", b"text/event-stream", b"text/plain", b"audio/",
)  # fmt: skip
"""Content types of servers that clients get. A browser would run the script of a page that claims to be HTML."""
MAX_ERROR_BYTES = 64 * 1024


class Relay(Outcome[PenstockError | None]):
    """Common part of all relays: the response's head, error responses, and the outcome.

    `provenance_headers` are the header lines that say who responded. `error_body` and `retry_after` are those of an
    error response. `_is_started` is True once this relay has written to the client.
    """

    # Slots, all of them set in __init__: the interpreter finds such attributes by position, not by name.
    __slots__ = (
        "_error_parts", "_error_size", "_is_started", "_provenance_headers", "call", "client", "connection",
        "content_type", "endpoint", "error_body", "piece_count", "retry_after", "status", "usage",
    )  # fmt: skip

    def __init__(self, ctx: RequestContext, provenance_headers: bytes) -> None:
        super().__init__()
        self.client = ctx.client
        self.call = ctx.call
        self.endpoint = ctx.endpoint
        self.connection: Connection | None = None
        self.content_type = b""
        self.error_body = b""
        self.piece_count = 0
        self.retry_after: float | None = None
        self.status = 0
        self.usage: Usage | None = None
        self._provenance_headers = provenance_headers
        self._error_parts: list[bytes] | None = None  # a list once the status is an error's
        self._is_started = False

    @property
    def request_sent(self) -> bool:
        """True if the request was written to a connection."""
        return self.connection is not None

    # ResponseSink

    def on_head(self, status: int, headers: Headers) -> None:
        """Start the response, or collect it if its status says that it is an error."""
        self.status = status
        content_type = self.content_type = headers.get(b"content-type", b"")
        if content_type not in USUAL_CONTENT_TYPES and not content_type.lower().startswith(_SAFE_CONTENT_TYPES):
            is_empty_success = not content_type and self.call.operation is Operation.MANAGE
            self.content_type = b"" if is_empty_success else JSON_CONTENT_TYPE
        if status >= 300:
            self._error_parts = []
            self._error_size = 0
            self.retry_after = parse_retry_after(headers.get(b"retry-after", b""), headers.get(b"date", b""))
            return
        self._start(headers.get(b"content-length"))

    def on_body(self, data: bytes) -> None:
        """Relay a piece of the response."""
        if self._error_parts is not None:
            if self._error_size <= MAX_ERROR_BYTES:
                self._error_parts.append(data)
                self._error_size += len(data)
                if self._error_size > MAX_ERROR_BYTES:
                    self._end_error()
            return
        try:
            self._relay_data(data)
        except PenstockError as error:
            self._stop(error)
        except Exception as error:
            log.exception("A response for %s could not be read.", self.endpoint.wire)
            self._stop(unreadable_response(error))

    def on_end(self, is_delimited: bool) -> None:
        """Deliver the end of the response."""
        if self._error_parts is not None:
            self._settle_error(self._error_parts)
            return
        try:
            self._complete(is_delimited)
        except PenstockError as error:
            self.on_failure(error)
        except Exception as error:
            log.exception("The end of a response for %s could not be delivered.", self.endpoint.wire)
            self.on_failure(unreadable_response(error))

    def on_failure(self, error: PenstockError) -> None:
        """End the client's stream with the error if it has started, and settle with the error."""
        client = self.client
        if self._error_parts is not None and isinstance(error, UpstreamTimeout):
            self._settle_error(self._error_parts)
            return
        if client.response_started and not client.is_disconnected:
            if isinstance(error, ClientStalled):
                client.abort()
            else:
                self._send_error(error)
        self.settle(error)

    def unsent_bytes(self) -> int:
        """Return the bytes that the client has not received yet."""
        return self.client.unsent_bytes

    def has_progressed(self) -> bool:
        """Return True: every piece of a response is progress."""
        return True

    # For subclasses

    def _start(self, content_length: bytes | None) -> None:
        """Start a response; `content_length` is the header's value, where the server sends it."""
        raise AssertionError

    def _relay_data(self, data: bytes) -> None:
        """Relay a piece of the body."""
        raise AssertionError

    def _complete(self, is_delimited: bool) -> None:
        """Complete the response and settle; `is_delimited` as in `ResponseSink.on_end`."""
        raise AssertionError

    def _send_error(self, error: PenstockError) -> None:
        """End the client's stream, which has started, with an error."""
        raise AssertionError

    def _settle_error(self, parts: list[bytes]) -> None:
        """End an error response with the part of its body that has arrived: its status is known."""
        self.error_body = b"".join(parts)[:MAX_ERROR_BYTES]
        self.settle(None)

    def _end_error(self) -> None:
        """End an error response whose body is too long."""
        if self.connection is not None:
            self.connection.abort()
        if self._error_parts is not None:
            self._settle_error(self._error_parts)

    def _stop(self, error: PenstockError) -> None:
        if self.connection is not None:
            self.connection.abort()
        self.on_failure(error)


def unreadable_response(error: Exception) -> UpstreamGarbage:
    """Return the error for a response that raised `error` when it was read."""
    return UpstreamGarbage(f"The server's response cannot be read ({type(error).__name__}). See the log.")
