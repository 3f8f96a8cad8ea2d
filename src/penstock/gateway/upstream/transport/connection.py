"""One connection to an engine: HTTP/1.x over asyncio's protocols, parsed by llhttp.

A connection carries one exchange at a time. `request` writes the request and names the `Sink` that gets the answer as
it comes; the sink hears exactly one of `end` and `failed`, and nothing after it. What the connection may do next
(be used again, or be closed) is told to its owner by `on_free`.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from penstock.domain.errors import (
    ClientStalled,
    ConnectFailed,
    PenstockError,
    UpstreamCut,
    UpstreamGarbage,
    UpstreamTimeout,
)
from penstock.http1.head_cache import CachedHead
from penstock.http1.limits import MAX_CACHED_HEADS, MAX_HEAD_BYTES

Headers = dict[bytes, bytes]

MAX_PARTIAL = 64 * 1024
"""A line that comes in pieces is held back until it is whole, up to this size; see `Connection.ragged`."""

_LINE_END = b"\n\r\n"  # where a line ends, and with it its chunk
_EMPTY_LINES = (b"\n\r\n\r\n", b"\r\n\r\n\n")
IDLE, SENT, HEAD, BODY, WHOLE = range(5)
"""Phases of an exchange: nothing yet, request sent, response begun, its head is whole, all of it is."""


class Sink(Protocol):
    """Where one answer goes. Called from the event loop, never after `end` or `failed`."""

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers (names in lower case) of the final response."""
        ...

    def body(self, data: bytes) -> None:
        """A piece of the body, without transfer coding."""
        ...

    def end(self, whole: bool) -> None:
        """The response is over. `whole` is False when only the closed connection says so (no length, not chunked)."""
        ...

    def failed(self, error: PenstockError) -> None:
        """The response broke off."""
        ...

    def unread(self) -> int:
        """Bytes of the answer that whom it is for has not taken yet."""
        ...


class Connection(asyncio.Protocol):
    """A connection; made by a pool, which hears of its end by `on_free(connection, reusable)`.

    `raw` is for a relay whose client takes the engine's own chunked framing: when the sink sets it in `head`, every
    received piece is handed to it as it came, from the first byte after the head on, once the parser has found it
    sound; `body` is called all the same. It may be set only where `can_be_raw`. What ends in the middle of a line
    waits for the rest, so that a stream that breaks off can be ended in good order, unless it is `ragged`.
    """

    __slots__ = (
        "_chunked", "_first", "_head_size", "_headers", "_interim", "_keep_alive", "_known", "_known_headers",
        "_lessons", "_on_free", "_parser", "_partial", "_phase", "_spoiled", "_stalled", "_unread", "_until_close",
        "address", "deadline", "idle_limit", "idle_since", "open", "ragged", "raw", "seen", "sink", "transport",
        "until",
    )  # fmt: skip

    def __init__(self, address: str, on_free: "Callable[[Connection, bool], None]") -> None:
        self.address = address
        self.open = False
        self.sink: Sink | None = None
        self.raw: Callable[[bytes], None] | None = None
        self.seen = False
        self.deadline = 0.0
        self.until = 0.0
        self.idle_limit = 0.0
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._phase = IDLE
        self._first = self._interim = self._spoiled = self._stalled = False
        self._chunked = self._keep_alive = self._until_close = False
        self._headers: Headers = {}
        self._head_size = 0
        self._known: CachedHead | None = None
        self._known_headers: Headers = {}
        self._lessons = MAX_CACHED_HEADS
        self._unread = 0
        self.ragged = False
        self._partial = b""

    # What its owner does with it

    @property
    def can_be_raw(self) -> bool:
        """Asked in `Sink.head`: whether the answer is chunked and its head came in one piece (its end is known)."""
        return self._chunked and self._first

    @property
    def started(self) -> bool:
        """Whether any byte of the answer has come."""
        return self._phase > SENT

    @property
    def costly(self) -> bool:
        """Whether the engine said for how long it keeps connections (`Keep-Alive: timeout=5`): it counts them."""
        return b"keep-alive" in self._headers

    def request(self, data: bytes, sink: Sink, deadline: float, idle_limit: float, until: float = math.inf) -> None:
        """Send a request. `deadline` (loop time) is for the first piece of the body; later ones may be `idle_limit`
        seconds apart, and all of it is to be there at `until`."""
        if not self.open or self.transport is None:
            self._on_free(self, False)
            sink.failed(ConnectFailed(f"the connection to {self.address} was closed before the request was sent"))
            return
        self.sink = sink
        self._phase = SENT
        self.deadline = deadline
        self.idle_limit = idle_limit
        self.until = until
        self.transport.write(data)

    def check(self, now: float) -> None:
        """Fail the exchange when it has been silent for too long; called by a sweep every fraction of a second, which
        costs less than a timer for each call."""
        if self.sink is None:
            return
        if self.seen and now < self.until:
            self.seen = False
            self.deadline = min(now + self.idle_limit, self.until)
        elif now >= self.deadline:
            if self._stalled:
                self._check_reader(now, self.sink.unread())
                return
            what = "sent nothing more" if self._phase > SENT else "did not begin to answer"
            self.abort(UpstreamTimeout(f"{self.address} {what} in time; raise LLM_TIMEOUT if the model is that slow"))

    def _check_reader(self, now: float, unread: int) -> None:
        """Who is slow may take its time as long as it reads at all."""
        if unread == self._unread:
            self.abort(ClientStalled("the client has stopped reading; the answer was given up"))
        self._unread = unread
        self.deadline = now + self.idle_limit

    def abort(self, error: PenstockError | None = None) -> None:
        """Close at once, which makes the engine stop working; the sink hears `error`, or nothing."""
        self.open = False
        if self.transport is not None:
            self.transport.abort()
        sink, self.sink, self.raw = self.sink, None, None
        self._on_free(self, False)
        if sink is not None and error is not None:
            sink.failed(error)

    def close(self) -> None:
        """Close a free connection."""
        self.open = False
        if self.transport is not None:
            self.transport.close()

    def pause(self) -> None:
        """Take no more from the engine until `resume`: the client is slower."""
        if self.transport is not None and self.open and self.sink is not None:
            self.transport.pause_reading()
            self._stalled = self.seen = True
            self._unread = self.sink.unread()

    def resume(self) -> None:
        """Take from the engine again."""
        if self.transport is not None and self.open:
            self.transport.resume_reading()
            self._stalled, self.seen = False, True

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once by the loop."""
        self.transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """A piece came. The parser judges it first; then the sink, or `raw`, has it."""
        if self.sink is None:
            # a free connection on which something comes is no longer to be trusted
            self.abort()
            return
        first = self._first = self._phase == SENT
        if first and self._known is not None:
            at = self._known.find_body(data)
            if at:
                self._again(data, at)
                return
        self._parse(data, first)

    def _parse(self, data: bytes, first: bool) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._phase != WHOLE:
                self.abort(UpstreamGarbage(f"{self.address} sent something that is not HTTP: {error}"))
                return
            self._spoiled = True
        if first and self.raw is not None:
            data = data[data.find(b"\r\n\r\n", data.find(b"HTTP/")) + 4 :]
        if self._phase == WHOLE:
            if first and self._lessons and self.raw is None:
                self._learn(data)
            self._finish(data)
        elif self.raw is not None:
            if data[-3:] == _LINE_END and not (self._partial or self.ragged):
                self.raw(data)
            else:
                self._hold(data, self.raw)
        elif self._phase < BODY:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD_BYTES:
                self.abort(UpstreamGarbage(f"{self.address} sent a head of more than {MAX_HEAD_BYTES} bytes"))

    def _again(self, data: bytes, at: int) -> None:
        """The head that this engine has sent before, but for length and date, with its whole body."""
        headers = self._headers = self._known_headers
        length = len(data) - at
        headers[b"content-length"] = b"%d" % length
        self._phase = WHOLE
        sink = self.sink
        if sink is not None:
            sink.head(200, headers)
        if self.sink is not None and length:
            self.sink.body(data[at:])
        self._finish(data)

    def _learn(self, data: bytes) -> None:
        """Remember the head of a good answer that came whole, on a connection that goes on.

        The first answer of a connection may be its only one: nothing is learnt from it.
        """
        headers, again = self._headers, self._lessons < MAX_CACHED_HEADS
        self._lessons -= 1
        if again and self._keep_alive and not self._spoiled and self._parser.get_status_code() == 200:
            length = headers.get(b"content-length")
            self._known = CachedHead.from_message(data, length)
            self._known_headers = headers

    def _hold(self, data: bytes, raw: Callable[[bytes], None]) -> None:
        """A piece that ends in the middle of a line or a chunk, or one that follows such a piece."""
        waits = self._partial[-2:] == b"\r\n"
        self._partial += data
        whole = self._partial.rfind(_LINE_END) + 3
        if whole >= 3:
            self.ragged = False
        elif self.ragged or len(self._partial) > MAX_PARTIAL or (waits and data[-2:] == b"\r\n"):
            self.ragged = True  # chunks without lines, or too large a one: they go on as they come
            whole = len(self._partial)
        if whole >= 3:
            data, self._partial = self._partial[:whole], self._partial[whole:]
            raw(data)

    def eof_received(self) -> bool:
        """The engine has closed its side: the end of a body that has no other mark of its end."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.transport = None
        self.open = False
        sink, self.sink, self.raw = self.sink, None, None
        self._on_free(self, False)
        if sink is None:
            return
        if self._phase <= SENT:
            sink.failed(UpstreamCut(f"{self.address} closed the connection without an answer"))
        elif exc is None and self._phase == BODY and self._until_close:
            sink.end(False)
        else:
            sink.failed(UpstreamCut(f"{self.address} closed the connection in the middle of its answer"))

    # What the parser tells

    def on_message_begin(self) -> None:
        """A response begins; a second one to the same request is a lie."""
        if self._phase == WHOLE:
            self._spoiled = True
        else:
            self._phase = HEAD
            self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._phase != HEAD or self.sink is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim = True
            self._first = False
            return
        headers = self._headers
        self._phase = BODY
        coding = headers.get(b"transfer-encoding")
        self._chunked = coding is not None and coding[-7:].lower() == b"chunked"
        self._until_close = not self._chunked and b"content-length" not in headers and status not in (204, 304)
        self._keep_alive = parser.should_keep_alive()
        self.sink.head(status, headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._phase == BODY and self.sink is not None:
            self.seen = True
            self.sink.body(data)

    def on_message_complete(self) -> None:
        """The response is whole, unless it was an interim one."""
        if self._interim:
            self._interim = False
        elif self._phase == BODY and not self._until_close:
            self._phase = WHOLE

    def _finish(self, data: bytes) -> None:
        """The answer is whole; `data` is its last piece. The connection is free before the sink hears of it."""
        sink, raw = self.sink, self.raw
        if sink is None:
            return
        self.sink = self.raw = None
        if self._stalled and self.transport is not None:
            self.transport.resume_reading()
        self.seen = self._stalled = False
        self._head_size = 0
        if self._keep_alive and not self._spoiled:
            self._on_free(self, True)
        else:
            self.close()
            self._on_free(self, False)
        if raw is None:
            sink.end(True)
        elif self._spoiled:
            sink.failed(UpstreamGarbage(f"{self.address} sent more than its answer"))
        else:
            if self._partial:
                data, self._partial = self._partial + data, b""
            self.ragged = False
            if data[-5:] in _EMPTY_LINES:  # after the end; the parser passes them over
                data = data.rstrip(b"\r\n") + b"\r\n\r\n"
            raw(data)
            sink.end(True)
