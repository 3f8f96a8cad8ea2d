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

from penstock.domain.errors import BodyTooLarge, ClientStalled, InvalidRequest, PenstockError
from penstock.gateway.pipeline import Pipeline
from penstock.serving.exchange import Exchange
from penstock.serving.routes import Gate, Route

log = logging.getLogger(__name__)

SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}\Z")
RARE = frozenset((b"transfer-encoding", b"expect", b"origin", b"x-request-id", b"content-encoding"))
"""Headers that most requests do not have: one look for all of them together."""
MAX_HEAD = 64 * 1024
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
        "_deaf", "_head_size", "_in_head", "active_at", "answering", "cycle", "flow", "headers", "loop", "parser",
        "pipeline", "server_state", "shared", "timeout_keep_alive_task", "transport", "url",
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
        self.answering: Exchange | None = None
        self._head_size = 0
        self._in_head = False
        self._deaf = False

    @classmethod
    def bind(cls, common: Shared) -> "type[GatewayProtocol]":
        """A protocol class for one gateway."""
        return type(cls.__name__, (cls,), {"__slots__": (), "common": common})

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        """A piece came; after a refusal that closes the connection nothing more is listened to."""
        if self._deaf:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._refuse(InvalidRequest("the head of the request is too large"))

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

    def send_400_response(self, msg: str) -> None:
        """What came cannot be understood."""
        reason = sys.exception()
        cause = reason.__context__ if reason is not None else None
        if cause is not None and not isinstance(cause, PenstockError):
            log.error("a request broke the gateway's own parsing", exc_info=cause)
        self._refuse(cause if isinstance(cause, PenstockError) else InvalidRequest(f"this is not HTTP/1.1: {reason}"))

    def _refuse(self, error: PenstockError) -> None:
        """Say so where nothing is being answered, and listen no more."""
        self._deaf = True
        current = self.cycle
        if isinstance(current, Exchange) and not current.ready:
            current.refusal = error
            current.keep_alive = False
            self._ready(current)
        elif current is not None and not current.response_complete:
            current.keep_alive = False
        else:
            body = b'{"type":"about:blank","title":"Bad Request","status":400,"code":"%b","detail":"%b"}' % (
                error.code.encode(), re.sub(rb'[^ !#-\\[\\]-~]', b"?", error.message.encode()),
            )  # fmt: skip
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (len(body), body)
            )
            self._hang_up()

    def sweep(self, now: float, keep_alive: float, patience: float) -> None:
        """Close a connection that has been idle for `keep_alive` seconds, or sends its request too slowly."""
        current = self.cycle
        if isinstance(current, Exchange) and not current.ready:
            if now - self.active_at > patience and not current.queued:
                self._deaf = True
                current.refusal = ClientStalled("the request did not arrive in time")
                current.keep_alive = False
                self._ready(current)
        elif (current is None or current.response_complete) and now - self.active_at > keep_alive:
            self.transport.close()

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
        parser, shared = self.parser, self.shared
        http11 = parser.get_http_version() == "1.1"
        headers = dict(self.headers)
        plain = (
            http11
            and shared.gate.known.get(headers.get(b"host"))
            and len(headers) == len(self.headers)
            and RARE.isdisjoint(headers)
        )
        if not plain:
            self._refuse_ambiguous(headers, http11)
        route = shared.table.get((parser.get_method(), self.url)) or self._route()
        if route is None:
            self._to_asgi(headers)
            return
        exchange = Exchange(self, route, http11 and parser.should_keep_alive(), http11)
        exchange.content_type = headers.get(b"content-type", b"")
        if not plain:
            self._read_rare(exchange, headers)
        if len(headers.get(b"content-length", b"")) > 6 and int(headers[b"content-length"]) > self.shared.max_body:
            exchange.refusal = _too_large(self.shared.max_body)
        before = self.cycle
        self.cycle = exchange
        if before is not None and not before.response_complete:
            exchange.queued = True
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
        if exchange.refusal is not None:
            exchange.keep_alive = False
            self._deaf = True
            self._ready(exchange)
        elif not plain and not exchange.queued and headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _route(self) -> Route | None:
        """The route of a target with a query."""
        path, mark, _ = self.url.partition(b"?")
        return self.shared.table.get((self.parser.get_method(), path)) if mark else None

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

    def _refuse_size(self, exchange: Exchange) -> None:
        self._deaf = True
        exchange.refusal = _too_large(self.shared.max_body)
        exchange.keep_alive = False
        self._ready(exchange)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
        elif not exchange.ready:
            self._ready(exchange)

    def _ready(self, exchange: Exchange) -> None:
        exchange.ready = True
        if not exchange.queued:
            self.answering = exchange
            exchange.start()

    def _refuse_ambiguous(self, headers: dict[bytes, bytes], http11: bool) -> None:
        """What llhttp lets pass and two parsers may read differently."""
        if http11 and b"host" not in headers:
            raise InvalidRequest("a request needs a Host header")
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise InvalidRequest("a request has one Host header")
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (not http11 or coding.strip().lower() != b"chunked"):
            raise InvalidRequest("the only transfer coding understood is chunked, in HTTP/1.1")

    def _to_asgi(self, headers: dict[bytes, bytes]) -> None:
        url, listed = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(listed)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()

    # The order of answers on this connection

    def _start_asgi_task(self, cycle: RequestResponseCycle | Exchange, app: ASGI3Application) -> None:
        """The turn of a queued request has come."""
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        cycle.queued = False
        if cycle.ready:
            self.answering = cycle
            cycle.start()

    def on_response_complete(self) -> None:
        """An ASGI answer is out."""
        self.active_at = self.loop.time()
        super().on_response_complete()

    def exchange_done(self, exchange: Exchange) -> None:
        """An exchange's answer is out."""
        self.answering = None
        self.server_state.total_requests += 1
        if exchange.gone or self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._hang_up()
            return
        self.active_at = exchange.first_at
        if self.pipeline:
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _hang_up(self) -> None:
        """Close, but leave the client a moment to read the answer while it may still be sending."""
        if not self._deaf:
            self.transport.close()
            return
        self.loop.call_later(LINGER, self.transport.close)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is over {limit} bytes (server.max_body)")
