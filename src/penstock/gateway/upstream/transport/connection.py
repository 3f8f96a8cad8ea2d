"""One connection to a model server: HTTP/1.x over asyncio's protocols, parsed by llhttp.

A connection carries one exchange at a time. `send_request` writes the request and names the `ResponseSink` that gets
the response as it comes; the sink gets exactly one of `on_end` and `on_failure`, and nothing after it. `on_released`
reports to the connection's owner whether it can be used again.
"""

import asyncio
import math
from collections.abc import Callable
from typing import cast

import httptools

from penstock.domain.errors import (
    ClientStalled,
    ConnectFailed,
    PenstockError,
    UpstreamCut,
    UpstreamGarbage,
    UpstreamTimeout,
)
from penstock.gateway.upstream.transport.response_sink import Headers, ResponseSink
from penstock.http1.head_cache import CachedHead
from penstock.http1.limits import MAX_CACHED_HEADS, MAX_HEAD_BYTES
from penstock.http1.trailers import end_raw_body

ERROR_BODY_SECONDS = 10.0  # that the body of an error response may take
MAX_PARTIAL_LINE = 64 * 1024  # bytes of an incomplete line that are held back; see `Connection.unaligned`

_LINE_END, _LAST_CHUNK = b"\n\r\n", b"0\r\n\r\n"  # end of a line and of its chunk; end of a body
_IDLE_BYTES = frozenset(b":\r\n\t ")  # start of pieces that only keep a connection alive: comments, white space
IDLE, REQUEST_SENT, HEAD, BODY, COMPLETE = range(5)  # phases of an exchange


class Connection(asyncio.Protocol):
    """A connection, owned by a pool, which gets `on_released(connection, reusable)` when an exchange has ended.

    `raw_writer` is for a relay whose client accepts the server's own chunked framing: when the sink sets it in
    `on_head`, it gets every received piece unchanged, from the first byte after the head on, once the parser has
    accepted the piece; `on_body` is called all the same. It may be set only where `supports_raw`. A piece that ends in
    the middle of a line waits for the rest, so that an interrupted stream can still be ended with an error event;
    `unaligned` is True while chunks do not end with lines, so that nothing can wait. `check_end`, set with it, returns
    the error for a response that ends properly but is incomplete; its last chunk is then not written.

    `deadline`, `total_deadline` and `idle_since` are loop times; `idle_limit` is seconds. `has_received` is True when
    data came since the last sweep.
    """

    __slots__ = (
        "_cached_head", "_cached_headers", "_content_due", "_content_limit", "_has_trailers", "_head_size", "_headers",
        "_heads_to_cache", "_is_chunked", "_is_error", "_is_first_piece", "_is_interim", "_is_keep_alive",
        "_is_paused", "_is_unusable", "_on_released", "_parser", "_partial", "_phase", "_reads_until_close",
        "_unsent_at_check", "address", "check_end", "deadline", "has_content", "has_received", "idle_limit",
        "idle_since", "is_open", "raw_writer", "sink", "total_deadline", "transport", "unaligned",
    )  # fmt: skip

    def __init__(self, address: str, on_released: "Callable[[Connection, bool], None]") -> None:
        self.address = address
        self.is_open = False
        self.sink: ResponseSink | None = None
        self.raw_writer: Callable[[bytes], None] | None = None
        self.check_end: Callable[[], PenstockError | None] | None = None
        self.has_received = False
        self.deadline = 0.0
        self.total_deadline = 0.0
        self.idle_limit = 0.0
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None
        self.unaligned = False
        self._on_released = on_released
        self._parser = httptools.HttpResponseParser(self)
        self._phase = IDLE
        self._is_first_piece = self._is_interim = self._is_unusable = self._is_paused = False
        self._is_chunked = self._is_keep_alive = self._reads_until_close = self._has_trailers = False
        self.has_content = self._is_error = False
        self._content_due = 0.0  # loop time; 0 before the first piece
        self._content_limit = math.inf
        self._headers: Headers = {}
        self._head_size = 0  # bytes of the head or the trailers; -1 after a piece of the body
        self._cached_head: CachedHead | None = None
        self._cached_headers: Headers = {}
        self._heads_to_cache = MAX_CACHED_HEADS
        self._unsent_at_check = 0
        self._partial = b""

    # For its owner and its sink

    @property
    def supports_raw(self) -> bool:
        """True if `raw_writer` may be set, in `on_head`: the response is chunked and its head came in one piece."""
        return self._is_chunked and self._is_first_piece

    @property
    def response_started(self) -> bool:
        """True once any byte of the response has come."""
        return self._phase > REQUEST_SENT

    @property
    def limits_connections(self) -> bool:
        """True if the server states how long it keeps connections (`Keep-Alive: timeout=5`): then they are scarce."""
        return b"keep-alive" in self._headers

    def send_request(
        self,
        data: bytes,
        sink: ResponseSink,
        deadline: float,
        idle_limit: float,
        total_deadline: float = math.inf,
        content_limit: float = math.inf,
    ) -> None:
        """Send a request.

        The first piece of the body must come before `deadline` (loop time), later ones at most `idle_limit` seconds
        apart, and all of it before `total_deadline`. Pieces without content, such as comments, do so for at most
        `content_limit` seconds.
        """
        if not self.is_open or self.transport is None:
            self._on_released(self, False)
            sink.on_failure(ConnectFailed(f"The connection to {self.address} was closed before the request was sent."))
            return
        self.sink = sink
        self._phase = REQUEST_SENT
        self.deadline = deadline
        self.idle_limit = idle_limit
        self.total_deadline = total_deadline
        self._content_limit = content_limit
        self._content_due = 0.0
        self.transport.write(data)

    def check_deadlines(self, now: float) -> None:
        """Fail the exchange when the server has been silent for too long.

        Called by a sweep several times a second, which costs less than a timer for each call.
        """
        if self.sink is None:
            return
        if self._is_error and self._phase == BODY:  # its status says enough: its body gets little time
            self._is_error = False
            self.deadline = self.total_deadline = min(self.total_deadline, now + ERROR_BODY_SECONDS)
        has_received = self.has_content or self.has_received
        if has_received and now < self.total_deadline and self._has_recent_content(now, self.sink):
            self.has_received = False
            self.deadline = min(now + self.idle_limit, self.total_deadline)
        elif now >= self.deadline:
            if self._is_paused:
                self._check_client(now, self.sink.unsent_bytes())
                return
            problem = "sent nothing more" if self._phase > REQUEST_SENT else "did not start its response"
            message = f"{self.address} {problem} in time. Raise LLM_TIMEOUT if the model is that slow."
            self.abort(UpstreamTimeout(message))

    def _has_recent_content(self, now: float, sink: ResponseSink) -> bool:
        """Return False when only signs of life have come for too long: comments, pings, white space."""
        has_content, self.has_content = self.has_content, False
        if not self._content_due or (has_content and sink.has_progressed()):
            self._content_due = now + self._content_limit
        return now < self._content_due

    def _check_client(self, now: float, unsent_bytes: int) -> None:
        """Fail the exchange when a slow client has received nothing since the last check."""
        if unsent_bytes == self._unsent_at_check:
            self.abort(ClientStalled("The client stopped reading the response."))
        self._unsent_at_check = unsent_bytes
        self.deadline = now + self.idle_limit

    def abort(self, error: PenstockError | None = None) -> None:
        """Close at once, which makes the server stop working; the sink gets `error`, if there is one."""
        self.is_open = False
        if self.transport is not None:
            self.transport.abort()
        sink, self.sink, self.raw_writer, self.check_end = self.sink, None, None, None
        self._on_released(self, False)
        if sink is not None and error is not None:
            sink.on_failure(error)

    def close(self) -> None:
        """Close a free connection."""
        self.is_open = False
        if self.transport is not None:
            self.transport.close()

    def pause(self) -> None:
        """Stop reading until `resume`: the client is slow."""
        if self.transport is not None and self.is_open and self.sink is not None:
            self.transport.pause_reading()
            self._is_paused = self.has_received = True
            self._unsent_at_check = self.sink.unsent_bytes()

    def resume(self) -> None:
        """Read again."""
        if self.transport is not None and self.is_open:
            self.transport.resume_reading()
            self._is_paused, self.has_received = False, True

    # asyncio callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Parse a piece, then pass it to the sink or to `raw_writer`."""
        if self.sink is None:
            self.abort()  # unexpected data on a free connection: the next response could not be trusted
            return
        is_first = self._is_first_piece = self._phase == REQUEST_SENT
        if is_first and self._cached_head is not None:
            body_at = self._cached_head.find_body(data)
            if body_at:
                self._replay_head(data, body_at)
                return
        self._parse(data, is_first)

    def _parse(self, data: bytes, is_first: bool) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._phase != COMPLETE:
                self.abort(UpstreamGarbage(f"{self.address} sent something that is not HTTP: {error}."))
                return
            self._is_unusable = True
        if is_first and self.raw_writer is not None:
            data = data[data.find(b"\r\n\r\n", data.find(b"HTTP/")) + 4 :]
        if self._phase == COMPLETE:
            if is_first and self._heads_to_cache and self.raw_writer is None:
                self._cache_head(data)
            self._finish(data)
        elif self.raw_writer is not None:
            if data[-3:] == _LINE_END and not (self._partial or self.unaligned):
                self.raw_writer(data)
            else:
                self._write_complete_lines(data, self.raw_writer)
                self._limit_head(len(data))
        else:
            self._limit_head(len(data))

    def _limit_head(self, size: int) -> None:
        """Count a piece that had nothing of the body: it belongs to the head, the trailers, or chunk extensions."""
        if self._head_size < 0:
            self._head_size = 0
            return
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            self.abort(UpstreamGarbage(f"{self.address} sent a head or trailers of more than {MAX_HEAD_BYTES} bytes."))

    def _replay_head(self, data: bytes, body_at: int) -> None:
        """Process a response with the cached head, which differs in length and date only, and a complete body."""
        headers = self._headers = self._cached_headers
        length = len(data) - body_at
        headers[b"content-length"] = b"%d" % length
        self._phase = COMPLETE
        sink = self.sink
        if sink is not None:
            sink.on_head(200, headers)
        if self.sink is not None and length:
            self.sink.on_body(data[body_at:])
        self._finish(data)

    def _cache_head(self, data: bytes) -> None:
        """Remember the head of a successful response that came in one piece.

        The first response of a connection may be its only one: its head is not cached.
        """
        headers, is_repeated = self._headers, self._heads_to_cache < MAX_CACHED_HEADS
        self._heads_to_cache -= 1
        is_ok = self._parser.get_status_code() == 200
        if is_repeated and self._is_keep_alive and not self._is_unusable and is_ok:
            self._cached_head = CachedHead.from_message(data, headers.get(b"content-length"))
            self._cached_headers = headers

    def _write_complete_lines(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Write a raw piece up to its last complete line, together with what was held back before."""
        if self._has_trailers:
            self._partial += data
            return
        ended_at_chunk = self._partial[-2:] == b"\r\n"
        self._partial += data
        end = self._partial.rfind(_LINE_END) + 3
        if end >= 3:
            self.unaligned = False
        elif self.unaligned or len(self._partial) > MAX_PARTIAL_LINE or (ended_at_chunk and data[-2:] == b"\r\n"):
            self.unaligned = True  # chunks without lines, or a line that is too long: write them as they come
            # What has no part of the body may be the beginning of trailers, which must not be written.
            end = len(self._partial) if self._head_size < 0 else 0
        if end >= 3:
            data, self._partial = self._partial[:end], self._partial[end:]
            write(data)

    def eof_received(self) -> bool:
        """Let the transport close: the server has closed its side."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange: a response without length ends here, any other is incomplete."""
        self.transport = None
        self.is_open = False
        sink, self.sink, self.raw_writer, self.check_end = self.sink, None, None, None
        self._on_released(self, False)
        if sink is None:
            return
        if self._phase <= REQUEST_SENT:
            sink.on_failure(UpstreamCut(f"{self.address} closed the connection without a response."))
        elif exc is None and self._phase == BODY and self._reads_until_close:
            sink.on_end(False)
        else:
            sink.on_failure(UpstreamCut(f"{self.address} closed the connection in the middle of its response."))

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Start a response; a second one to the same request makes the connection unusable."""
        if self._phase == COMPLETE:
            self._is_unusable = True
        else:
            self._phase = HEAD
            self._headers = {}
            self._has_trailers = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; ignore a trailer."""
        if self._phase == HEAD:
            self._headers[name.lower()] = value
        else:
            self._has_trailers = True

    def on_headers_complete(self) -> None:
        """Pass the head to the sink, unless the response is an interim one."""
        if self._phase != HEAD or self.sink is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._is_interim = True
            self._is_first_piece = False
            return
        headers = self._headers
        self._phase = BODY
        coding = headers.get(b"transfer-encoding")
        self._is_chunked = coding is not None and coding[-7:].lower() == b"chunked"
        self._reads_until_close = not self._is_chunked and b"content-length" not in headers and status not in (204, 304)
        self._is_keep_alive = parser.should_keep_alive()
        self._is_error = status >= 300
        self.sink.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        """Pass a piece of the body to the sink."""
        if self._phase == BODY and self.sink is not None:
            self._head_size = -1
            if data[0] in _IDLE_BYTES:
                self.has_received = True
            else:
                self.has_content = True
            self.sink.on_body(data)

    def on_message_complete(self) -> None:
        """Mark the response as complete, unless it is an interim one."""
        if self._is_interim:
            self._is_interim = False
        elif self._phase == BODY and not self._reads_until_close:
            self._phase = COMPLETE

    def _finish(self, data: bytes) -> None:
        """End the exchange; `data` is its last piece. The connection is free before the sink learns of the end."""
        sink, raw_writer = self.sink, self.raw_writer
        if sink is None:
            return
        self.sink = self.raw_writer = None
        if self._is_paused and self.transport is not None:
            self.transport.resume_reading()
        self.has_received = self.has_content = self._is_paused = False
        self._head_size = 0
        if self._is_keep_alive and not self._is_unusable:
            self._on_released(self, True)
        else:
            self.close()
            self._on_released(self, False)
        if raw_writer is None:
            sink.on_end(True)
        elif self._is_unusable:
            sink.on_failure(UpstreamGarbage(f"{self.address} sent more than its response."))
        else:
            self._end_raw(data, raw_writer, sink)

    def _end_raw(self, data: bytes, write: Callable[[bytes], None], sink: ResponseSink) -> None:
        """Write the last raw piece, without its last chunk if the response is incomplete."""
        data, self._partial, self.unaligned = end_raw_body(self._partial + data, self._has_trailers), b"", False
        check_end, self.check_end = self.check_end, None
        error = check_end() if check_end is not None else None
        if not data:  # a part of the trailers has been sent already
            error = UpstreamGarbage(f"{self.address} sent trailers in pieces.")
        elif error is None:
            write(data)
            sink.on_end(True)
            return
        elif data.endswith(_LAST_CHUNK):
            write(data.removesuffix(_LAST_CHUNK))
        sink.on_failure(error)
