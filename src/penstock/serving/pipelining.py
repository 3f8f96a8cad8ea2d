"""Order of responses on one client connection: pipelined requests, inference and ASGI, wait for their turn."""

import enum
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from penstock.domain.errors import PenstockError
from penstock.serving.exchange import Exchange
from penstock.serving.request_validation import render_error_response

MAX_QUEUED_REQUESTS = 16
"""Waiting requests of one connection, after which the gateway stops reading from it."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_SECONDS = 1.0
"""Time between an error response and the close, so that a client that is still sending can read the response."""


class ReadState(enum.Enum):
    """Part of a request that the gateway is reading from a client."""

    IDLE = enum.auto()
    """Nothing: between two requests."""
    HEAD = enum.auto()
    BODY = enum.auto()
    REJECTED = enum.auto()
    """A request was rejected: further bytes are ignored and the connection closes after the last response."""


IDLE, HEAD, BODY, REJECTED = ReadState
"""Bound to names: access through the Enum class costs 0.1 µs in Python 3.11."""


class PipelinedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with two kinds of requests in its queue: its own cycles, and exchanges."""

    # uvicorn's own attributes that every request uses are slots here, too (docs/decisions/0006)
    __slots__ = (
        "_asgi_running", "_awaiting_continue", "_deferred_error", "_is_advancing", "_read_state", "answering", "cycle",
        "flow", "loop", "pipeline", "server_state", "sweep_marker", "transport",
    )  # fmt: skip

    cycle: Any  # the last request: uvicorn's RequestResponseCycle or an Exchange
    answering: Exchange | None
    """The exchange that is running."""
    sweep_marker: object
    """Progress of this connection as the last sweep saw it."""
    _read_state: ReadState
    _is_advancing: bool
    _asgi_running: bool
    _awaiting_continue: Exchange | None
    _deferred_error: PenstockError | None
    """The error in the body of an ASGI request that has been started or queued."""

    def _start_asgi_task(self, cycle: RequestResponseCycle | Exchange, app: ASGI3Application) -> None:
        """Start a request, of either kind, whose turn has come."""
        if not isinstance(cycle, Exchange):
            self._asgi_running = True
            super()._start_asgi_task(cycle, app)
            return
        cycle.queued = False
        if cycle.body_complete:
            self.answering = cycle
            cycle.start()
        elif cycle is self._awaiting_continue and not cycle.body_size:
            self.transport.write(CONTINUE)

    def on_response_complete(self) -> None:
        """Go on with the next request: an ASGI response has been written."""
        self._asgi_running = False
        self.sweep_marker = None
        self.server_state.total_requests += 1
        self._start_queued_requests()

    def exchange_done(self, exchange: Exchange) -> None:
        """Go on with the next request: the response of an exchange has been written."""
        self.answering = self.sweep_marker = None
        self.server_state.total_requests += 1
        if exchange.is_disconnected or self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._close_after_response()
            return
        if self.pipeline or self.flow.read_paused or self.flow.write_paused:
            self._start_queued_requests()

    def _start_queued_requests(self) -> None:
        """Start waiting requests in order, for as long as each completes at once and the client reads."""
        if self._is_advancing or self.transport.is_closing():
            return
        self._is_advancing = True
        current: Any = None
        while self.pipeline and not self.flow.write_paused and (current is None or current.response_complete):
            current, app = self.pipeline.pop()
            if current.disconnected:
                self._send_deferred_error(current)
                break
            self._start_asgi_task(current, app)
            if self.transport.is_closing() or not current.keep_alive:
                break
        self._is_advancing = False
        self._update_reading()

    def _update_reading(self) -> None:
        """Pause reading while too many requests wait or the client does not read its responses; else resume it."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if len(self.pipeline) >= MAX_QUEUED_REQUESTS or (self.flow.write_paused and is_idle):
            self.flow.pause_reading()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _send_deferred_error(self, cycle: RequestResponseCycle) -> None:
        """Reject an ASGI request whose body turned out to be wrong after the request had started or been queued."""
        if cycle.response_started or self._deferred_error is None:
            self.transport.abort()
        else:
            self._send_error(self._deferred_error)

    def _send_error(self, error: PenstockError) -> None:
        self.transport.write(render_error_response(error))
        self._close_after_response()

    def _close_after_response(self) -> None:
        """Close the connection, with a delay while the client may still be sending a rejected request."""
        if self._read_state is REJECTED:
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()
