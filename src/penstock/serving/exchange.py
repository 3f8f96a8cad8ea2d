"""One inference request on a client's connection, and its answer.

An exchange stands where uvicorn keeps its own request-response cycle, so that inference and ASGI requests of one
connection are answered in the order they came.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.domain.errors import ClientGone, PenstockError
from penstock.gateway.client import RoutingHints, Source
from penstock.gateway.coroutine_runner import drive
from penstock.http1.status_lines import OK_LINE, STATUS_LINES, status_line
from penstock.serving.routes import Route

if TYPE_CHECKING:
    from penstock.serving.protocol import GatewayProtocol

CLOSE = b"connection: close\r\n"
_PREFIX = secrets.token_hex(4).encode()
_numbers = itertools.count(1)


class _NoEvent:
    """uvicorn tells a cycle of new body bytes by an event; an exchange needs none."""

    def set(self) -> None:
        """Nothing waits."""


_NO_EVENT = _NoEvent()


class Exchange:
    """The client's side of one call; implements `gateway.client.Client`."""

    # Slots, all of them set at once: attributes that the interpreter finds by position, not by name.
    __slots__ = (
        "chunked", "content_type", "cors", "disconnected", "first_at", "gone", "id", "keep_alive", "parts", "paused",
        "protocol", "queued", "ready", "refusal", "response_complete", "response_started", "route", "routing_hints",
        "size", "transport", "upstream",
    )  # fmt: skip

    message_event = _NO_EVENT

    def __init__(self, protocol: "GatewayProtocol", route: Route, keep_alive: bool, chunked: bool) -> None:
        self.protocol = protocol
        self.transport: asyncio.Transport = protocol.transport
        self.route = route
        self.id = b"%b%08x" % (_PREFIX, next(_numbers))
        self.keep_alive = keep_alive
        self.chunked = chunked
        self.parts: list[bytes] = []
        self.response_started = False
        self.content_type = b""
        self.cors = b""
        self.disconnected = False  # uvicorn sets it; `gone` is what counts
        self.first_at = 0.0
        self.gone = False
        self.paused = False
        self.queued = False
        self.ready = False
        self.refusal: PenstockError | None = None
        self.response_complete = False
        self.size = 0
        self.upstream: Source | None = None
        self.routing_hints: RoutingHints | None = None

    @property
    def request_id(self) -> str:
        """The caller's own when it is sane, else one made for it."""
        return self.id.decode("ascii")

    @property
    def unsent_bytes(self) -> int:
        """What waits to be sent."""
        return self.transport.get_write_buffer_size()

    def start(self) -> None:
        """Its turn has come and its body is here."""
        protocol = self.protocol
        if self.refusal is not None:
            self.fail(self.refusal)
            return
        parts, self.parts = self.parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        drive(protocol.shared.calls.run(self, self.route.endpoint, body, self.content_type))

    def lost(self) -> None:
        """The client hung up: the engine is to stop."""
        self.gone = True
        if self.upstream is not None:
            self.upstream.abort(ClientGone("the client hung up"))

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        self.paused = True
        if self.upstream is not None:
            self.upstream.pause()

    def resume(self) -> None:
        """It has caught up."""
        if self.paused:
            self.paused = False
            if self.upstream is not None:
                self.upstream.resume()

    # The answer

    def _head(self, content_type: bytes, head: bytes) -> bytes:
        self.response_started = True
        protocol = self.protocol
        self.first_at = protocol.loop.time()
        return b"%bcontent-type: %b\r\nx-request-id: %b\r\n%b%b" % (
            protocol.shared.date_line, content_type, self.id, self.cors, head,
        )  # fmt: skip

    def send_response(self, status: int, content_type: bytes, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        if self.gone:
            return
        self.response_started = True
        protocol = self.protocol
        self.first_at = protocol.loop.time()
        self.transport.write(
            b"%b%bcontent-type: %b\r\nx-request-id: %b\r\n%b%b%bcontent-length: %d\r\n\r\n%b"
            % (
                STATUS_LINES.get(status) or status_line(status), protocol.shared.date_line, content_type,
                self.id, self.cors, head, b"" if self.keep_alive else CLOSE, len(body), body,
            )
        )  # fmt: skip
        self.response_complete = True
        protocol.exchange_done(self)

    def start_response(self, content_type: bytes, head: bytes, first: bytes, length: int | None = None) -> None:
        """Begin an answer with its first piece; without a length it is chunked, or ends with the connection."""
        if self.gone:
            return
        head = self._head(content_type, head)
        close = b"" if self.keep_alive else CLOSE
        if length is not None:
            self.chunked = False
            self.transport.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (OK_LINE, head, close, length, first))
        elif self.chunked:
            chunk = b"%x\r\n%b\r\n" % (len(first), first)
            self.transport.write(b"%b%b%btransfer-encoding: chunked\r\n\r\n%b" % (OK_LINE, head, close, chunk))
        else:
            self.keep_alive = False
            self.transport.write(b"%b%bconnection: close\r\n\r\n%b" % (OK_LINE, head, first))
        self._catch_up()

    def start_raw_response(self, content_type: bytes, head: bytes, first: bytes) -> None:
        """Begin a chunked answer with pieces that carry their framing."""
        if self.gone:
            return
        close = b"" if self.keep_alive else CLOSE
        self.transport.write(
            b"%b%b%btransfer-encoding: chunked\r\n\r\n%b" % (OK_LINE, self._head(content_type, head), close, first)
        )
        self._catch_up()

    def _catch_up(self) -> None:
        """The client was slow before this engine's connection was known."""
        if self.paused and self.upstream is not None:
            self.upstream.pause()

    def write(self, data: bytes) -> None:
        """Write a further piece."""
        if data and not self.gone:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    @property
    def write_raw(self) -> Callable[[bytes], None]:
        """The transport's own `write`: a passed-through piece goes to it without another call in between."""
        return self.transport.write

    def finish(self, framed: bool = False) -> None:
        """End the answer."""
        if self.chunked and not framed and not self.gone:
            self.transport.write(b"0\r\n\r\n")
        self._complete()

    def fail(self, error: PenstockError) -> None:
        """Answer with an error in the caller's dialect."""
        head = b""
        if error.retry_after is not None:
            wait = max(0.0, error.retry_after)
            head = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(1, round(wait)), round(wait * 1000))
        dialect = self.route.dialect
        self.send_response(error.status, dialect.media_type, head, dialect.render_error(error, self.request_id))

    def abort(self) -> None:
        """Close the connection in the middle of the answer."""
        self.response_complete = True
        self.protocol.answering = None  # it has not hung up: we have
        self.transport.abort()

    def _complete(self) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        self.protocol.exchange_done(self)
