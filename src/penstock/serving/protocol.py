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
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from penstock.domain.errors import InvalidRequest, PenstockError
from penstock.gateway.client import RoutingHints
from penstock.gateway.pipeline import Pipeline
from penstock.http1.head_cache import CachedHead
from penstock.http1.limits import MAX_CACHED_HEADS, MAX_HEAD_BYTES
from penstock.serving import request_validation
from penstock.serving.exchange import Exchange
from penstock.serving.pipelining import CONTINUE, OrderedProtocol
from penstock.serving.request_validation import body_too_large
from penstock.serving.routes import Gate, Route

log = logging.getLogger(__name__)

SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}\Z")
MAX_WAIT, SESSION = b"x-penstock-max-wait", b"x-session-id"
RARE = frozenset(
    (b"transfer-encoding", b"expect", b"origin", b"x-request-id", b"content-encoding", b"upgrade", MAX_WAIT, SESSION)
)
"""Headers that most requests do not have: one look for all of them together."""
MAX_QUEUED_BODY = 256 * 1024
"""Bytes of a waiting request's body that are taken before its turn."""


@dataclass(slots=True, eq=False)
class Shared:
    """What all connections of one gateway have in common. `date_line` is drawn anew every second by the server."""

    calls: Pipeline
    table: dict[tuple[bytes, bytes], Route]
    gate: Gate
    max_body: int
    date_line: bytes = b""


class GatewayProtocol(OrderedProtocol):
    """One client connection."""

    __slots__ = (
        "_head_size", "_in_head", "_known", "_lesson", "_lessons", "_plain_head", "_refusal", "active_at", "headers",
        "parser", "shared", "url",
    )  # fmt: skip

    common: Shared

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
        self.mark = None
        self.answering = None
        self._head_size = 0
        self._in_head = False
        self._deaf = False
        self._plain_head = b""
        self._advancing = self._in_asgi = False
        self._expecting = None
        self._refusal: PenstockError | None = None
        self._known: tuple[CachedHead, Route, bytes] | None = None
        self._lesson: bytes | None = b""  # the length that a head worth learning told
        self._lessons = MAX_CACHED_HEADS

    @classmethod
    def bind(cls, common: Shared) -> "type[GatewayProtocol]":
        """A protocol class for one gateway."""
        return type(cls.__name__, (cls,), {"__slots__": (), "common": common})

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        """A piece came; after a refusal that closes the connection nothing more is listened to."""
        known, last = self._known, self.cycle
        if known is not None and type(last) is Exchange and last.response_complete and not self._in_head:
            at = known[0].find_body(data)
            if at and last.keep_alive and not (self._deaf or self.pipeline or self.flow.write_paused):
                self._again(known, data[at:])
                return
        if not self._deaf:
            self._parse(data, last is not None and last.response_complete and not self._in_head)

    def _parse(self, data: bytes, again: bool) -> None:
        """Let the parser read a piece; `again`: it may be a further request, whose head is worth learning."""
        if len(data) > MAX_HEAD_BYTES:
            for at in range(0, len(data), MAX_HEAD_BYTES):
                self.data_received(data[at : at + MAX_HEAD_BYTES])
            return
        self._lesson = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._deaf:
                self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            self._not_upgraded(data[upgrade.args[0] :])
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > 2 * MAX_HEAD_BYTES:
                self.refuse(request_validation.head_too_large())
        elif again and self._lesson and self._lessons:
            self._learn(data, self._lesson)

    def _again(self, known: tuple[CachedHead, Route, bytes], body: bytes) -> None:
        """The head that this connection has said before, but for the length, with its whole body."""
        _, route, content_type = known
        self.cycle = self.answering = exchange = Exchange(self, route, True, True)
        exchange.content_type = content_type
        exchange.parts.append(body)
        exchange.ready = True
        exchange.start()

    def _learn(self, data: bytes, length: bytes) -> None:
        """Remember a head that has nothing rare in it."""
        self._lessons -= 1
        exchange = self.cycle
        head = CachedHead.from_message(data, length)
        if head is not None and type(exchange) is Exchange and exchange.keep_alive:
            self._known = head, exchange.route, exchange.content_type

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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, but for the addresses, which only ASGI asks for."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)

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
        self.transport.write(request_validation.response(error))
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
        if plain:
            self._lesson = headers.get(b"content-length")
        else:
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
        request_validation.check_head(version, self.headers)
        if self._head_size:
            request_validation.check_size(self.url, self.headers)
        if self.parser.should_upgrade():
            self._plain_head = request_validation.without_upgrade(self.parser.get_method(), self.url, self.headers)
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
        if MAX_WAIT in headers or SESSION in headers:
            exchange.routing_hints = RoutingHints(_seconds(headers.get(MAX_WAIT)), headers.get(SESSION, b"")[:128])
            if exchange.routing_hints.max_wait is None and MAX_WAIT in headers:
                exchange.refusal = InvalidRequest("x-penstock-max-wait is a number of seconds, such as 20")
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
        if self.scheme is None:
            self.server, self.client = get_local_addr(self.transport), get_remote_addr(self.transport)
            self.scheme = "https" if is_ssl(self.transport) else "http"
        url, listed = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(listed)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()
        self._read_on()


def _seconds(value: bytes | None) -> float | None:
    """A header's number of seconds, if it is one."""
    try:
        seconds = float(value or b"")
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < 1e9 else None
