"""The client's side of a connection: uvicorn's HTTP protocol, with the inference routes taken out before ASGI.

Parsing, ASGI, WebSocket upgrades and keep-alive of everything else are uvicorn's. A request for an inference route
becomes an `Exchange` and goes to the pipeline as soon as its body is whole: no scope, no queues, no extra task.
"""

import asyncio
import logging
import re
import sys
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from penstock.domain.errors import InvalidRequest, PenstockError
from penstock.gateway.pipeline import Pipeline
from penstock.serving import refusals
from penstock.serving.exchange import Exchange
from penstock.serving.refusals import MAX_HEAD, body_too_large
from penstock.serving.routes import Gate, Route

log = logging.getLogger(__name__)

SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}\Z")
RARE = frozenset((b"transfer-encoding", b"expect", b"origin", b"x-request-id", b"content-encoding", b"upgrade"))
"""Headers that most requests do not have: one look for all of them together."""
MAX_QUEUED = 16
"""Requests of one connection that may wait for their turn before it is read no further."""
MAX_QUEUED_BODY = 256 * 1024
"""Bytes of a waiting request's body that are taken before its turn."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER = 1.0
"""Seconds between a refusal and the close, so that a client still sending gets to read why."""


@dataclass(slots=True, eq=False)
class Shared:
    """What all connections of one gateway have in common. `date_line` is drawn anew every second by the server."""

    calls: Pipeline
    table: dict[tuple[bytes, bytes], Route]
    gate: Gate
    max_body: int
    date_line: bytes = b""


class GatewayProtocol(HttpToolsProtocol):
    """One client connection."""

    # uvicorn's own attributes that every request touches are slots here, which the interpreter finds by position
    __slots__ = (
        "_advancing", "_deaf", "_expecting", "_head_size", "_in_asgi", "_in_head", "_plain_head", "_refusal",
        "active_at", "answering", "cycle", "flow", "headers", "loop", "mark", "parser", "pipeline", "server_state",
        "shared", "transport", "url",
    )  # fmt: skip

    common: Shared
    cycle: Any  # uvicorn's own, or an Exchange

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared = self.common
        self.active_at = self.loop.time()
        self.mark: object = None  # what the sweep saw last
        self.answering: Exchange | None = None
        self._head_size = 0
        self._in_head = False
        self._deaf = False
        self._plain_head = b""
        self._advancing = self._in_asgi = False
        self._expecting: Exchange | None = None
        self._refusal: PenstockError | None = None

    @classmethod
    def bind(cls, common: Shared) -> "type[GatewayProtocol]":
        """A protocol class for one gateway."""
        return type(cls.__name__, (cls,), {"__slots__": (), "common": common})

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        """A piece came; after a refusal that closes the connection nothing more is listened to."""
        if self._deaf:
            return
        if len(data) > MAX_HEAD:
            for at in range(0, len(data), MAX_HEAD):
                self.data_received(data[at : at + MAX_HEAD])
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._deaf:
                self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            self._not_upgraded(data[upgrade.args[0] :])
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > 2 * MAX_HEAD:
                self.refuse(refusals.head_too_large())

    def _not_upgraded(self, rest: bytes) -> None:
        """Another protocol is asked for: WebSocket there is; anything else is passed over, as HTTP allows."""
        if self._plain_head:
            head, self._plain_head = self._plain_head, b""
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.data_received(head + rest)
        elif self.scope is not None and self.scope["headers"] is self.headers and self._should_upgrade():
            self.handle_websocket_upgrade()
        elif rest:
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: so is the engine's work for it, and what it had queued."""
        self.pipeline.clear()
        if self.answering is not None:
            self.answering.lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client is slow."""
        super().pause_writing()
        if self.answering is not None:
            self.answering.pause()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self.answering is not None:
            self.answering.resume()
        elif not self._in_asgi:
            self._advance()

    def send_400_response(self, msg: str) -> None:
        """What came cannot be understood."""
        reason = sys.exception()
        cause = reason.__context__ if reason is not None else None
        if cause is not None and not isinstance(cause, PenstockError):
            log.error("a request broke the gateway's own parsing", exc_info=cause)
        self.refuse(cause if isinstance(cause, PenstockError) else InvalidRequest(f"this is not HTTP/1.1: {reason}"))

    def refuse(self, error: PenstockError) -> None:
        """Say what is wrong with the request that is coming in, after the answers before it, and listen no more."""
        self._deaf = True
        current = self.cycle
        if isinstance(current, Exchange) and not current.ready:
            current.refusal = error
            current.keep_alive = False
            self._ready(current)
        elif current is None or current.response_complete:
            self._say(error)
        elif isinstance(current, Exchange) or not current.more_body:  # it is whole; what follows it is wrong
            current.keep_alive = False
        else:
            current.disconnected = True
            current.message_event.set()
            self._refusal = error
            if all(cycle is not current for cycle, _ in self.pipeline):
                self._say_late(current)

    def _say_late(self, cycle: RequestResponseCycle) -> None:
        """Refuse a request whose body turned out to be wrong while it was being answered."""
        if cycle.response_started or self._refusal is None:
            self.transport.abort()
        else:
            self._say(self._refusal)

    def _say(self, error: PenstockError) -> None:
        self.transport.write(refusals.response(error))
        self._hang_up()

    def awaited(self) -> tuple[object, int] | None:
        """The request that is coming in, and how many bytes of it have come; None when none is."""
        current = self.cycle
        if self._deaf:
            return None
        if self._in_head:
            return "head", self._head_size
        if current is None or current.response_complete:
            return None
        if isinstance(current, Exchange):
            return None if current.ready or current.queued else (current, current.size)
        return (current, len(current.body)) if current.more_body else None

    # What the parser tells

    def on_message_begin(self) -> None:
        """A request begins; uvicorn's scope is made only when it turns out to be needed."""
        self.url = b""
        self.headers = []
        self._in_head = True
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: an inference route becomes an exchange, anything else is uvicorn's."""
        self._in_head = False
        before = self.cycle
        if before is not None and not before.keep_alive:
            self._deaf = True  # that was the last request of this connection
            raise InvalidRequest("nothing may follow on this connection")
        parser, shared = self.parser, self.shared
        http11 = parser.get_http_version() == "1.1"
        headers = dict(self.headers)
        plain = (
            http11
            and not self._head_size
            and shared.gate.known.get(headers.get(b"host"))
            and len(headers) == len(self.headers)
            and RARE.isdisjoint(headers)
        )
        if not plain and self._odd(http11):
            return
        route = shared.table.get((parser.get_method(), self.url)) or self._route()
        if route is None:
            self._to_asgi(headers)
            return
        exchange = Exchange(self, route, http11 and parser.should_keep_alive(), http11)
        exchange.content_type = headers.get(b"content-type", b"")
        if not plain:
            self._read_rare(exchange, headers)
        if len(headers.get(b"content-length", b"")) > 6 and int(headers[b"content-length"]) > self.shared.max_body:
            exchange.refusal = body_too_large(self.shared.max_body)
        self.cycle = exchange
        if before is not None and (not before.response_complete or self.flow.write_paused):
            exchange.queued = True
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
            self._read_on()
        if exchange.refusal is not None:
            exchange.keep_alive = False
            self._deaf = True
            self._ready(exchange)
        elif not plain and http11 and headers.get(b"expect", b"").lower() == b"100-continue":
            if exchange.queued:
                self._expecting = exchange
            else:
                self.transport.write(CONTINUE)

    def _route(self) -> Route | None:
        """The route of a target with a query."""
        path, mark, _ = self.url.partition(b"?")
        return self.shared.table.get((self.parser.get_method(), path)) if mark else None

    def _odd(self, http11: bool) -> bool:
        """Look closely at a head that is not as most are; whether it is to be read once more.

        The parser takes what follows an offer to speak another protocol for that protocol, the request's own body too.
        """
        version = "1.1" if http11 else self.parser.get_http_version()
        refusals.check_head(version, self.headers)
        if self._head_size:
            refusals.check_size(self.url, self.headers)
        if self.parser.should_upgrade():
            self._plain_head = refusals.without_upgrade(self.parser.get_method(), self.url, self.headers)
        return bool(self._plain_head)

    def _read_rare(self, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        """What few requests have: a Host not seen before, an id of their own, a page's origin, a coded body."""
        own_id = headers.get(b"x-request-id")
        if own_id is not None and SANE_ID.match(own_id):
            exchange.id = own_id
        origin = headers.get(b"origin")
        exchange.refusal = self.shared.gate.check(headers.get(b"host"), origin)
        if origin is not None and exchange.refusal is None:
            exchange.cors = b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
        if headers.get(b"content-encoding", b"identity") != b"identity":
            exchange.refusal = InvalidRequest("compressed request bodies are not understood; send the body as it is")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        exchange = self.cycle
        if type(exchange) is not Exchange:
            super().on_body(body)
        elif not exchange.ready:
            exchange.parts.append(body)
            exchange.size += len(body)
            if exchange.size > self.shared.max_body:
                self._refuse_size(exchange)
            elif exchange.queued and exchange.size > MAX_QUEUED_BODY:
                self.flow.pause_reading()

    def _refuse_size(self, exchange: Exchange) -> None:
        self._deaf = True
        exchange.refusal = body_too_large(self.shared.max_body)
        exchange.keep_alive = False
        self._ready(exchange)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self.cycle
        if type(exchange) is not Exchange:
            if not self._plain_head:
                super().on_message_complete()
        elif not exchange.ready:
            self._ready(exchange)

    def _ready(self, exchange: Exchange) -> None:
        exchange.ready = True
        if not exchange.queued:
            self.answering = exchange
            exchange.start()

    def _to_asgi(self, headers: dict[bytes, bytes]) -> None:
        url, listed = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(listed)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()
        self._read_on()

    # The order of answers on this connection

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
