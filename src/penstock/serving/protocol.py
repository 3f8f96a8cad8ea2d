"""Client connections: uvicorn's HTTP protocol, with the inference routes handled before ASGI.

Parsing, ASGI, WebSocket upgrades and keep-alive of all other routes are uvicorn's. A request for an inference route
becomes an `Exchange` and goes to the pipeline as soon as its body is complete: no scope, no queue, no task.
"""

import asyncio
import logging
import sys
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from penstock.domain.errors import InvalidRequest, PenstockError
from penstock.gateway.client import RoutingHints
from penstock.http1.cross_origin import EXPOSED_HEADERS
from penstock.http1.head_cache import CachedHead
from penstock.http1.limits import MAX_CACHED_HEADS, MAX_HEAD_BYTES
from penstock.http1.request_ids import is_acceptable_request_id
from penstock.serving import request_validation
from penstock.serving.context import ServingContext
from penstock.serving.exchange import SMALL_PIECE_BYTES, Exchange
from penstock.serving.pipelining import BODY, CONTINUE, HEAD, IDLE, REJECTED, PipelinedProtocol
from penstock.serving.request_target import normalize_slashes, split_absolute_target
from penstock.serving.request_validation import create_body_size_error
from penstock.serving.routes import Route

log = logging.getLogger(__name__)

MAX_WAIT_HEADER, SESSION_HEADER = b"x-penstock-max-wait", b"x-session-id"
UNUSUAL_HEADERS = frozenset(
    (
        b"transfer-encoding", b"expect", b"origin", b"x-request-id", b"content-encoding", b"upgrade", MAX_WAIT_HEADER,
        SESSION_HEADER,
    )
)  # fmt: skip
"""Headers that most requests do not have; one set operation looks for all of them."""
CORS_LINES = b"access-control-expose-headers: %b\r\nvary: origin\r\n" % EXPOSED_HEADERS.encode()
MAX_QUEUED_BODY_BYTES = 256 * 1024  # of a waiting request's body that are read before its turn


class GatewayProtocol(PipelinedProtocol):
    """One client connection. Base of the class that `for_context` makes for each gateway."""

    __slots__ = (
        "_cache_attempts_left", "_cacheable_length", "_cached_content_type", "_cached_head", "_cached_route",
        "_head_size", "_head_without_upgrade", "active_at", "context", "headers", "parser", "url",
    )  # fmt: skip

    class_context: ServingContext
    _cached_route: Route  # set together with `_cached_head`
    _cached_content_type: bytes

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.context = self.class_context
        self.active_at = self.loop.time()
        self.sweep_marker = None
        self.answering = None
        self._read_state = IDLE
        self._head_size = 0
        self._head_without_upgrade = b""
        self._is_advancing = self._asgi_running = False
        self._awaiting_continue = None
        self._deferred_error = None
        self._cached_head: CachedHead | None = None
        self._cacheable_length: bytes | None = b""  # Content-Length of a parsed head that may be cached
        # A cached head matches any Content-Length of six digits.
        self._cache_attempts_left = MAX_CACHED_HEADS if self.context.max_body_bytes > 999_999 else 0

    @classmethod
    def for_context(cls, context: ServingContext) -> "type[GatewayProtocol]":
        """Return a protocol class for one gateway: uvicorn makes the instances."""
        return type(cls.__name__, (cls,), {"__slots__": (), "class_context": context})

    # asyncio callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Do what uvicorn does, except for looking up the addresses, which only ASGI needs."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request; after a rejection everything is ignored."""
        if self._read_state is IDLE:
            last = self.cycle
            can_be_repeat = last is not None and last.response_complete
            cached = self._cached_head
            if can_be_repeat and cached is not None and type(last) is Exchange:
                body_at = cached.find_body(data)
                if body_at and last.keep_alive and not (self.pipeline or self.flow.write_paused):
                    self._replay_head(data[body_at:])
                    return
            self._parse(data, can_be_repeat)
        elif self._read_state is not REJECTED:
            self._parse(data, False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Abort the running request and drop the waiting ones."""
        self.pipeline.clear()
        if self.answering is not None:
            self.answering.handle_disconnect()
        super().connection_lost(exc)
        # Requests refer to their connection. Without the cycle they, and their bodies, are freed now.
        self.cycle = self.answering = None

    def pause_writing(self) -> None:
        """Pause the model server: the client reads too slowly."""
        super().pause_writing()
        if self.answering is not None:
            self.answering.pause_upstream()

    def resume_writing(self) -> None:
        """Go on: the client has caught up."""
        super().resume_writing()
        if self.answering is not None:
            self.answering.resume_upstream()
        elif not self._asgi_running:
            self._start_queued_requests()

    # Reading

    def _parse(self, data: bytes, may_cache: bool) -> None:
        """Feed the parser; `may_cache`: the data may be a repeated request, whose head is worth caching."""
        if len(data) > MAX_HEAD_BYTES:
            for start in range(0, len(data), MAX_HEAD_BYTES):
                self.data_received(data[start : start + MAX_HEAD_BYTES])
            return
        self._cacheable_length = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self._read_state is not REJECTED:
                self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            self._handle_upgrade(data[upgrade.args[0] :])
        if self._read_state is HEAD or self._read_state is BODY:
            self._limit_head(len(data))
        elif may_cache and self._cacheable_length and self._cache_attempts_left:
            self._cache_head(data, self._cacheable_length)

    def _limit_head(self, size: int) -> None:
        """Count a piece that had nothing of the body: it belongs to the head, the trailers, or chunk extensions."""
        if self._head_size < 0:
            self._head_size = 0
            return
        self._head_size += size
        if self._head_size > 2 * MAX_HEAD_BYTES:
            self.reject_request(request_validation.create_head_size_error())

    def _replay_head(self, body: bytes) -> None:
        """Start a request whose head is the cached one and whose body is complete."""
        self.cycle = self.answering = exchange = Exchange(self, self._cached_route, True, True)
        exchange.content_type = self._cached_content_type
        exchange.body_parts.append(body)
        exchange.body_complete = True
        exchange.start()

    def _cache_head(self, message: bytes, length: bytes) -> None:
        """Remember the head of the request that has just been parsed; it has none of the unusual headers."""
        self._cache_attempts_left -= 1
        exchange = self.cycle
        head = CachedHead.from_message(message, length)
        if head is not None and type(exchange) is Exchange and exchange.keep_alive:
            self._cached_head = head
            self._cached_route = exchange.route
            self._cached_content_type = exchange.content_type

    def _handle_upgrade(self, rest: bytes) -> None:
        """Upgrade to WebSocket; ignore a request for any other protocol, as RFC 9110 (7.8) allows."""
        if self._head_without_upgrade:
            head, self._head_without_upgrade = self._head_without_upgrade, b""
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.data_received(head + rest)
        elif self.scope is not None and self.scope["headers"] is self.headers and self._should_upgrade():
            self.handle_websocket_upgrade()
        elif rest:
            self.data_received(rest)

    # Rejecting

    def send_400_response(self, msg: str) -> None:
        """Reject a request that cannot be parsed; called while the parser's exception is handled."""
        error = sys.exception()
        cause = error.__context__ if error is not None else None
        if cause is not None and not isinstance(cause, PenstockError):
            log.error("A request could not be read because of an error in the gateway.", exc_info=cause)
        if isinstance(cause, PenstockError):
            self.reject_request(cause)
        else:
            self.reject_request(InvalidRequest(f"This is not a valid HTTP/1.1 request: {error}."))

    def reject_request(self, error: PenstockError) -> None:
        """Reject the request that is being received, after the responses before it, and stop reading."""
        self._read_state = REJECTED
        current = self.cycle
        if isinstance(current, Exchange) and not current.body_complete:
            self._reject_exchange(current, error)
        elif current is None or current.response_complete:
            self._send_error(error)
        elif isinstance(current, Exchange) or not current.more_body:  # complete; the bytes after it are wrong
            current.keep_alive = False
        else:
            current.disconnected = True
            current.message_event.set()
            self._deferred_error = error
            if all(cycle is not current for cycle, _ in self.pipeline):
                self._send_deferred_error(current)

    def _reject_exchange(self, exchange: Exchange, error: PenstockError) -> None:
        """Answer a request with an error instead of running it."""
        self._read_state = REJECTED
        exchange.body_parts.clear()
        exchange.rejection = error
        exchange.keep_alive = False
        self._complete_body(exchange)

    def incomplete_request(self) -> tuple[object, int] | None:
        """Return the request that is being received and how many of its bytes have arrived, or None."""
        current = self.cycle
        if self._read_state is HEAD:
            return "head", self._head_size
        if self._read_state is not BODY or current is None or current.response_complete:
            return None
        if isinstance(current, Exchange):
            return None if current.queued else (current, current.body_size)
        return current, len(current.body)

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Begin a request; uvicorn's scope is only made when it turns out to be needed."""
        if self._read_state is REJECTED:
            raise InvalidRequest("This connection is closing; open a new one for further requests.")
        self._read_state = HEAD
        self.url = b""
        self.headers = []
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Add a piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; ignore a trailer, which must not be merged into the headers (RFC 9110, 6.5.1)."""
        if self._read_state is HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Turn the request into an exchange if it is for an inference route, else hand it to uvicorn."""
        self._read_state = BODY
        previous = self.cycle
        if previous is not None and not previous.keep_alive:
            self._read_state = REJECTED
            raise InvalidRequest("This connection is closing; open a new one for further requests.")
        parser, context = self.parser, self.context
        is_http11 = parser.get_http_version() == "1.1"
        if not self.url.startswith(b"/"):
            self._apply_absolute_target()
        headers = dict(self.headers)
        is_usual = (
            is_http11
            and not self._head_size
            and context.origin_policy.host_decisions.get(headers.get(b"host"))
            and len(headers) == len(self.headers)
            and UNUSUAL_HEADERS.isdisjoint(headers)
        )
        if not is_usual and self._check_unusual_head(is_http11):
            return
        route = context.routes.get((parser.get_method(), self.url)) or self._find_route_of_variant()
        if route is None:
            self._hand_to_asgi(headers)
            return
        self.cycle = exchange = Exchange(self, route, is_http11 and parser.should_keep_alive(), is_http11)
        exchange.content_type = headers.get(b"content-type", b"")
        if previous is not None and (not previous.response_complete or self.flow.write_paused):
            exchange.queued = True
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
            self._update_reading()
        error = None
        if is_usual:
            self._cacheable_length = headers.get(b"content-length")
        else:
            error = self._apply_unusual_headers(exchange, headers)
        if len(headers.get(b"content-length", b"")) > 6 and int(headers[b"content-length"]) > context.max_body_bytes:
            error = create_body_size_error(context.max_body_bytes)
        if error is not None:
            self._reject_exchange(exchange, error)
        elif not is_usual and is_http11 and headers.get(b"expect", b"").lower() == b"100-continue":
            self._send_continue(exchange)

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        exchange = self.cycle
        self._head_size = -1
        if type(exchange) is not Exchange:
            super().on_body(body)
        elif not exchange.body_complete:
            if exchange.body_size and len(body) < SMALL_PIECE_BYTES:
                exchange.join_piece(body)
            else:
                exchange.body_parts.append(body)
            exchange.body_size += len(body)
            if exchange.body_size > self.context.max_body_bytes:
                self._reject_exchange(exchange, create_body_size_error(self.context.max_body_bytes))
            elif exchange.queued and exchange.body_size > MAX_QUEUED_BODY_BYTES:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """Start the request, or let it wait for its turn."""
        if self._read_state is not REJECTED:
            self._read_state = IDLE
        exchange = self.cycle
        if type(exchange) is not Exchange:
            if not self._head_without_upgrade:
                super().on_message_complete()
        elif not exchange.body_complete:
            self._complete_body(exchange)

    def _complete_body(self, exchange: Exchange) -> None:
        exchange.body_complete = True
        if not exchange.queued:
            self.answering = exchange
            exchange.start()

    def _find_route_of_variant(self) -> Route | None:
        """Return the route of a target that has a query or needless slashes, which are dropped."""
        self.url = normalize_slashes(self.url)
        return self.context.routes.get((self.parser.get_method(), self.url.partition(b"?")[0]))

    def _apply_absolute_target(self) -> None:
        """Let the host in the target stand for the Host header, as RFC 9112 (3.2.2) requires."""
        parts = split_absolute_target(self.url)
        if parts is not None:
            host, self.url = parts
            self.headers = [(name, host if name == b"host" else value) for name, value in self.headers]

    def _check_unusual_head(self, is_http11: bool) -> bool:
        """Validate a head that is not usual. Return True if it must be parsed again, without its Upgrade header.

        The parser takes the bytes after an Upgrade for the new protocol, even where they are the request's body.
        """
        version = "1.1" if is_http11 else self.parser.get_http_version()
        request_validation.check_head(version, self.headers)
        if self._head_size:
            request_validation.check_head_size(self.url, self.headers)
        if self.parser.should_upgrade():
            self._head_without_upgrade = request_validation.render_without_upgrade(
                self.parser.get_method(), self.url, self.headers
            )
        return bool(self._head_without_upgrade)

    def _apply_unusual_headers(self, exchange: Exchange, headers: dict[bytes, bytes]) -> PenstockError | None:
        """Apply the headers that few requests have. Return the reason to reject the request, or None."""
        client_id = headers.get(b"x-request-id")
        if client_id is not None and is_acceptable_request_id(client_id):
            exchange.id = client_id
        origin = headers.get(b"origin")
        error = self.context.origin_policy.check_request(headers.get(b"host"), origin)
        if origin is not None and error is None:
            exchange.cors_headers = b"access-control-allow-origin: %b\r\n%b" % (origin, CORS_LINES)
        if MAX_WAIT_HEADER in headers or SESSION_HEADER in headers:
            max_wait = request_validation.parse_seconds(headers.get(MAX_WAIT_HEADER))
            exchange.routing_hints = RoutingHints(max_wait, headers.get(SESSION_HEADER, b"")[:128])
            if max_wait is None and MAX_WAIT_HEADER in headers:
                error = InvalidRequest("The header x-penstock-max-wait must be a number of seconds, such as 20.")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            error = InvalidRequest("Compressed request bodies are not supported; send the body uncompressed.")
        return error

    def _send_continue(self, exchange: Exchange) -> None:
        """Invite the client to send the body, now or when the request's turn has come (Expect: 100-continue)."""
        if exchange.queued:
            self._awaiting_continue = exchange
        else:
            self.transport.write(CONTINUE)

    def _hand_to_asgi(self, headers: dict[bytes, bytes]) -> None:
        if self.scheme is None:
            self.server, self.client = get_local_addr(self.transport), get_remote_addr(self.transport)
            self.scheme = "https" if is_ssl(self.transport) else "http"
        url, header_lines = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(header_lines)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()
        self._update_reading()
