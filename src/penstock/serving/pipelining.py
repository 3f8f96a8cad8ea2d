"""The order of answers on one client connection: requests that came before their turn wait, of both kinds."""

from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from penstock.serving.exchange import Exchange

MAX_QUEUED = 16
"""Requests of one connection that may wait for their turn before it is read no further."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER = 1.0
"""Seconds between a refusal and the close, so that a client still sending gets to read why."""


class OrderedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with two kinds of requests in its queue: its own cycles, and exchanges."""

    # uvicorn's own attributes that every request touches are slots here, which the interpreter finds by position
    __slots__ = (
        "_advancing", "_deaf", "_expecting", "_in_asgi", "answering", "cycle", "flow", "loop", "mark", "pipeline",
        "server_state", "transport",
    )  # fmt: skip

    cycle: Any  # uvicorn's own, or an Exchange
    answering: Exchange | None
    _advancing: bool
    _deaf: bool
    mark: object  # what the sweep saw last
    _expecting: Exchange | None

    def _say_late(self, cycle: RequestResponseCycle) -> None:
        """Refuse a request whose body turned out to be wrong while it was being answered."""
        raise AssertionError

    def _start_asgi_task(self, cycle: RequestResponseCycle | Exchange, app: ASGI3Application) -> None:
        """The turn of a queued request has come."""
        if not isinstance(cycle, Exchange):
            self._in_asgi = True
            super()._start_asgi_task(cycle, app)
            return
        cycle.queued = False
        if cycle.ready:
            self.answering = cycle
            cycle.start()
        elif cycle is self._expecting and not cycle.size:
            self.transport.write(CONTINUE)

    def on_response_complete(self) -> None:
        """An ASGI answer is out."""
        self._in_asgi = False
        self.mark = None
        self.server_state.total_requests += 1
        self._advance()

    def exchange_done(self, exchange: Exchange) -> None:
        """An exchange's answer is out."""
        self.answering = self.mark = None
        self.server_state.total_requests += 1
        if exchange.gone or self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._hang_up()
            return
        if self.pipeline or self.flow.read_paused or self.flow.write_paused:
            self._advance()

    def _advance(self) -> None:
        """Answer the requests that wait, one after the other, as far as that goes at once and the client reads."""
        if self._advancing or self.transport.is_closing():
            return
        self._advancing = True
        current: Any = None
        while self.pipeline and not self.flow.write_paused and (current is None or current.response_complete):
            current, app = self.pipeline.pop()
            if current.disconnected:
                self._say_late(current)
                break
            self._start_asgi_task(current, app)
            if self.transport.is_closing() or not current.keep_alive:
                break
        self._advancing = False
        self._read_on()

    def _read_on(self) -> None:
        """Read from the client, or not: a crowd of requests waits, or it does not read its answers."""
        idle = self.cycle is None or self.cycle.response_complete
        if len(self.pipeline) >= MAX_QUEUED or (self.flow.write_paused and idle):
            self.flow.pause_reading()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _hang_up(self) -> None:
        """Close, but leave the client a moment to read the answer while it may still be sending."""
        if not self._deaf:
            self.transport.close()
            return
        self.loop.call_later(LINGER, self.transport.close)
