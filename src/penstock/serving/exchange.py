"""One inference request on a client connection, and its response.

An exchange stands where uvicorn keeps its own request-response cycle, so that inference and ASGI requests of one
connection are answered in the order they came.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Protocol

from penstock.domain.errors import ClientGone, PenstockError
from penstock.gateway.client import RoutingHints, Source
from penstock.gateway.coroutine_runner import run_now
from penstock.http1.status_lines import OK_LINE, STATUS_LINES, status_line
from penstock.serving.context import ServingContext
from penstock.serving.routes import Route

CONNECTION_CLOSE = b"connection: close\r\n"
SMALL_PIECE_BYTES = 4096
"""Pieces of a body that are smaller are joined, if there are several."""
_ID_PREFIX = secrets.token_hex(4).encode()
_id_numbers = itertools.count(1)


class ConnectionOwner(Protocol):
    """The part of a client connection that its exchanges use."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    context: ServingContext
    answering: "Exchange | None"

    def exchange_done(self, exchange: "Exchange") -> None:
        """Take note that the response of `exchange` has been written completely."""
        ...


class _UnusedEvent:
    """Stands in for the event by which uvicorn announces body bytes to a cycle; an exchange does not wait for it."""

    def set(self) -> None:
        """Do nothing."""


_UNUSED_EVENT = _UnusedEvent()


class Exchange:
    """The caller's side of one call; implements `gateway.client.Client`.

    `queued`: responses to earlier requests of the connection are not complete. `body_complete`: the request has been
    received, or rejected. An exchange starts when it is not queued and its body is complete. Then `response_started`
    and `response_complete` follow, names that uvicorn reads. `rejection` is sent instead of running the request.
    """

    # Slots (docs/decisions/0006): Python 3.11 finds them by position, not by name.
    __slots__ = (
        "accepts_chunked", "body_complete", "body_parts", "body_size", "content_type", "cors_headers", "disconnected",
        "first_byte_at", "id", "is_disconnected", "keep_alive", "owner", "queued", "rejection", "response_complete",
        "response_started", "route", "routing_hints", "transport", "upstream", "upstream_paused",
    )  # fmt: skip

    message_event = _UNUSED_EVENT

    def __init__(self, owner: ConnectionOwner, route: Route, keep_alive: bool, chunked: bool) -> None:
        self.owner = owner
        self.transport = owner.transport
        self.route = route
        self.id = b"%b%08x" % (_ID_PREFIX, next(_id_numbers))
        self.keep_alive = keep_alive
        self.accepts_chunked = chunked
        self.content_type = b""
        self.cors_headers = b""
        self.body_parts: list[bytes | bytearray] = []
        self.body_size = 0
        self.body_complete = False
        self.queued = False
        self.rejection: PenstockError | None = None
        self.response_started = False
        self.response_complete = False
        self.first_byte_at = 0.0
        self.disconnected = False  # set by uvicorn; `is_disconnected` is what counts here
        self.is_disconnected = False
        self.upstream: Source | None = None
        self.upstream_paused = False
        self.routing_hints: RoutingHints | None = None

    @property
    def request_id(self) -> str:
        """The caller's own id if it is acceptable, else a generated one."""
        return self.id.decode("ascii")

    @property
    def unsent_bytes(self) -> int:
        """Bytes of the response that wait in memory to be sent."""
        return self.transport.get_write_buffer_size()

    def join_piece(self, piece: bytes) -> None:
        """Join a small piece of the body to the one before: by itself it takes many times its size."""
        last = self.body_parts[-1]
        if isinstance(last, bytearray):
            last += piece
        else:
            self.body_parts.append(bytearray(piece))

    def start(self) -> None:
        """Run the request: its body is complete and all earlier responses of the connection are, too."""
        if self.rejection is not None:
            self.send_error(self.rejection)
            return
        parts, self.body_parts = self.body_parts, []
        body: bytes = parts[0] if len(parts) == 1 else b"".join(parts)  # type: ignore[assignment]  # the first is bytes
        run_now(self.owner.context.pipeline.run_call(self, self.route.endpoint, body, self.content_type))

    def handle_disconnect(self) -> None:
        """Abort the upstream request: the client closed the connection."""
        self.is_disconnected = True
        if self.upstream is not None:
            self.upstream.abort(ClientGone("The client closed the connection."))

    def pause_upstream(self) -> None:
        """Stop reading from the model server: the client reads more slowly than it writes."""
        self.upstream_paused = True
        if self.upstream is not None:
            self.upstream.pause()

    def resume_upstream(self) -> None:
        """Read from the model server again: the client has caught up."""
        if self.upstream_paused:
            self.upstream_paused = False
            if self.upstream is not None:
                self.upstream.resume()

    # The response

    def _render_headers(self, content_type: bytes, headers: bytes) -> bytes:
        self.response_started = True
        owner = self.owner
        self.first_byte_at = owner.loop.time()
        return b"%bcontent-type: %b\r\nx-request-id: %b\r\n%b%b" % (
            owner.context.date_line, content_type, self.id, self.cors_headers, headers,
        )  # fmt: skip

    def send_response(self, status: int, content_type: bytes, headers: bytes, body: bytes) -> None:
        """Write a complete response."""
        if self.is_disconnected:
            return
        self.response_started = True
        owner = self.owner
        self.first_byte_at = owner.loop.time()
        response = (
            b"%b%bcontent-type: %b\r\nx-request-id: %b\r\n%b%b%bcontent-length: %d\r\n\r\n%b"
            % (
                STATUS_LINES.get(status) or status_line(status), owner.context.date_line, content_type, self.id,
                self.cors_headers, headers, b"" if self.keep_alive else CONNECTION_CLOSE, len(body), body,
            )
        )  # fmt: skip
        if not content_type:  # the model server sent none, as Ollama does after a copy
            response = response.replace(b"content-type: \r\n", b"", 1)
        self.transport.write(response)
        self.response_complete = True
        owner.exchange_done(self)

    def start_response(self, content_type: bytes, headers: bytes, first: bytes, length: int | None = None) -> None:
        """Write the head and the first bytes of the body.

        Without `length` it is chunked, or ends with the connection (HTTP/1.0).
        """
        if self.is_disconnected:
            return
        response_head = self._render_headers(content_type, headers)
        close = b"" if self.keep_alive else CONNECTION_CLOSE
        if length is not None:
            self.accepts_chunked = False
            self.transport.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (OK_LINE, response_head, close, length, first))
        elif self.accepts_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(first), first)
            self.transport.write(b"%b%b%btransfer-encoding: chunked\r\n\r\n%b" % (OK_LINE, response_head, close, chunk))
        else:
            self.keep_alive = False
            self.transport.write(b"%b%bconnection: close\r\n\r\n%b" % (OK_LINE, response_head, first))
        self._pass_on_pause()

    def start_raw_response(self, content_type: bytes, headers: bytes, first: bytes) -> None:
        """Write the head of a chunked response and its first bytes, which carry their own framing."""
        if self.is_disconnected:
            return
        response_head = self._render_headers(content_type, headers)
        close = b"" if self.keep_alive else CONNECTION_CLOSE
        self.transport.write(b"%b%b%btransfer-encoding: chunked\r\n\r\n%b" % (OK_LINE, response_head, close, first))
        self._pass_on_pause()

    def _pass_on_pause(self) -> None:
        """Pause the model server's connection if the client was slow before that connection was known."""
        if self.upstream_paused and self.upstream is not None:
            self.upstream.pause()

    def write(self, data: bytes) -> None:
        """Write more of the body."""
        if data and not self.is_disconnected:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.accepts_chunked else data)

    @property
    def raw_writer(self) -> Callable[[bytes], None]:
        """The transport's own `write`, so that a passed-through chunk costs no further call."""
        return self.transport.write

    def finish(self, framed: bool = False) -> None:
        """End the response; `framed`: the last raw piece contained the last chunk."""
        if self.accepts_chunked and not framed and not self.is_disconnected:
            self.transport.write(b"0\r\n\r\n")
        if not self.response_complete:
            self.response_complete = True
            self.owner.exchange_done(self)

    def send_error(self, error: PenstockError) -> None:
        """Write an error response in the caller's dialect."""
        head = b""
        if error.retry_after is not None:
            wait = max(0.0, error.retry_after)
            head = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(1, round(wait)), round(wait * 1000))
        dialect = self.route.dialect
        status = dialect.find_status(error)
        self.send_response(status, dialect.media_type, head, dialect.render_error(error, self.request_id))

    def abort(self) -> None:
        """Close the connection in the middle of the response, so that the caller sees that it is incomplete."""
        self.response_complete = True
        self.owner.answering = None  # the gateway closes the connection: `handle_disconnect` must not be called
        self.transport.abort()
