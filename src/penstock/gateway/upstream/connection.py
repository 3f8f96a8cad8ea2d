"""One connection to an engine: HTTP/1.x over asyncio's protocols, parsed by llhttp.

A connection carries one exchange at a time. `request` writes the request and names the `Sink` that gets the answer as
it comes; the sink hears exactly one of `end` and `failed`, and nothing after it. What the connection may do next
(be used again, or be closed) is told to its owner by `on_free`.
"""

import asyncio
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

Headers = dict[bytes, bytes]

MAX_HEAD = 64 * 1024


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


class Connection(asyncio.Protocol):
    """A connection; made by a pool, which hears of its end by `on_free(connection, reusable)`.

    `raw` is for a relay whose client takes the engine's own chunked framing: when the sink sets it in `head`, every
    received piece is handed to it as it came, from the first byte after the head on, once the parser has found it
    sound; `body` is called all the same. It may be set only where `can_be_raw`.
    """

    def __init__(self, address: str, on_free: "Callable[[Connection, bool], None]") -> None:
        self.address = address
        self.sink: Sink | None = None
        self.raw: Callable[[bytes], None] | None = None
        self.served = 0
        self.seen = False
        self.deadline = 0.0
        self.idle_limit = 0.0
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._closing = False
        self._freed = True
        self._keep_alive = self._length = self._chunked = False
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = {}
        self._started = self._headed = self._complete = self._interim = self._spoiled = self._stalled = False
        self._head_open = True
        self._head_size = 0

    # What its owner does with it

    @property
    def usable(self) -> bool:
        """Whether it is open and free for a request."""
        return self.transport is not None and not self._closing and self.sink is None

    @property
    def can_be_raw(self) -> bool:
        """Asked in `Sink.head`: whether the answer is chunked and its head came in one piece (its end is known)."""
        return self._chunked and self._head_open

    @property
    def started(self) -> bool:
        """Whether any byte of the answer has come."""
        return self._started

    def request(self, data: bytes, sink: Sink, deadline: float, idle_limit: float) -> None:
        """Send a request. `deadline` (loop time) is for the first piece of the body; later ones may be `idle_limit`
        seconds apart."""
        transport = self.transport
        if transport is None or self._closing:
            sink.failed(ConnectFailed(f"the connection to {self.address} was closed before the request was sent"))
            return
        if self.served:
            self._reset()
        self.sink = sink
        self.seen = False
        self.deadline = deadline
        self.idle_limit = idle_limit
        self.served += 1
        self._freed = False
        transport.write(data)

    def check(self, now: float) -> None:
        """Fail the exchange when it has been silent for too long; called by a sweep every fraction of a second, which
        costs less than a timer for each call."""
        if self.sink is None:
            return
        if self.seen:
            self.seen = False
            self.deadline = now + self.idle_limit
        elif now >= self.deadline:
            if self._stalled:
                self.abort(ClientStalled("the client has stopped reading; the answer was given up"))
                return
            what = "sent nothing more" if self._started else "did not begin to answer"
            self.abort(UpstreamTimeout(f"{self.address} {what} in time; raise LLM_TIMEOUT if the model is that slow"))

    def abort(self, error: PenstockError | None = None) -> None:
        """Close at once, which makes the engine stop working; the sink hears `error`, or nothing."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort()
        sink = self._free(False)
        if sink is not None and error is not None:
            sink.failed(error)

    def _free(self, reusable: bool) -> Sink | None:
        """Let go of the sink and tell the owner, once for each request."""
        sink, self.sink, self.raw = self.sink, None, None
        if not self._freed:
            self._freed = True
            self._on_free(self, reusable)
        return sink

    def close(self) -> None:
        """Close a free connection."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()

    def pause(self) -> None:
        """Take no more from the engine until `resume`: the client is slower."""
        if self.transport is not None and not self._closing:
            self.transport.pause_reading()
            self._stalled = self.seen = True

    def resume(self) -> None:
        """Take from the engine again."""
        if self.transport is not None and not self._closing:
            self.transport.resume_reading()
            self._stalled, self.seen = False, True

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once by the loop."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A piece came. The parser judges it first; then the sink, or `raw`, has it."""
        if self.sink is None:
            # a free connection on which something comes is no longer to be trusted
            self.abort()
            return
        first = not self._started
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self.abort(UpstreamGarbage(f"{self.address} sent something that is not HTTP: {error}"))
                return
            self._spoiled = True
        if self.raw is not None and first:
            data = data[data.find(b"\r\n\r\n") + 4 :]
        if self._complete:
            self._finish(data)
        elif self.raw is not None:
            self.raw(data)
        self._head_open = False
        if not self._headed:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self.abort(UpstreamGarbage(f"{self.address} sent a head of more than {MAX_HEAD} bytes"))

    def eof_received(self) -> bool:
        """The engine has closed its side: the end of a body that has no other mark of its end."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.transport = None
        self._closing = True
        sink = self._free(False)
        if sink is None:
            return
        if not self._started:
            sink.failed(UpstreamCut(f"{self.address} closed the connection without an answer"))
        elif exc is None and self._headed and not self._chunked and not self._length:
            sink.end(False)
        else:
            sink.failed(UpstreamCut(f"{self.address} closed the connection in the middle of its answer"))

    # What the parser tells

    def on_message_begin(self) -> None:
        """A response begins; a second one to the same request is a lie."""
        if self._complete:
            self._spoiled = True
        self._started = True
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            self._head_open = False
            return
        headers = self._headers
        self._length = b"content-length" in headers or status in (204, 304)
        self._chunked = b"transfer-encoding" in headers
        self._keep_alive = self._parser.should_keep_alive()
        self._headed = True
        if self.sink is not None:
            self.sink.head(status, headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.sink is not None and not self._complete:
            self.seen = True
            self.sink.body(data)

    def on_message_complete(self) -> None:
        """The response is whole, unless it was an interim one."""
        if self._interim:
            self._interim = False
            return
        if self._length or self._chunked:
            self._complete = True

    def _finish(self, data: bytes) -> None:
        if self._closing:
            return
        sound = not self._spoiled
        if self.raw is not None and sound:
            self.raw(data)
        reusable = sound and self._keep_alive
        if not reusable:
            self._closing = True
            if self.transport is not None:
                self.transport.close()
        was_raw = self.raw is not None
        sink = self._free(reusable)
        if sink is None:
            return
        if was_raw and not sound:
            sink.failed(UpstreamGarbage(f"{self.address} sent more than its answer"))
        else:
            sink.end(True)
