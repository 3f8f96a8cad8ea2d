"""One client connection: httptools parses its requests, which are answered one after another."""

import asyncio
import contextlib
import os
import re
import socket
import struct
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import parse_qsl, unquote

import httptools

from penstock.sim.exchange import Exchange, Request

# Scheme and authority of a target in absolute form, as proxies send it.
_ABSOLUTE = re.compile(r"^https?://[^/]*", re.IGNORECASE)


class App(Protocol):
    """The server that a connection hands its requests to."""

    connections: set["Connection"]

    def accepts_connections(self) -> bool: ...

    def handle_exchange(self, exchange: Exchange) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Incoming:
    url: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One client connection: requests in order, one answer at a time, flushed once per iteration of the loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._requests: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._resumed: asyncio.Future[None] | None = None
        self.paused = False
        self.served = 0
        self._idle: asyncio.TimerHandle | None = None

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is no subclass
        self._app.connections.add(self)
        if not self._app.accepts_connections():
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._cancel_idle_timer()
        self._app.connections.discard(self)
        self._requests.clear()
        self._outgoing.clear()
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        if self._task is not None:
            self._task.cancel()
        return False

    def data_received(self, data: bytes) -> None:
        self._cancel_idle_timer()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: 15\r\n\r\n400 Bad Request"
            )
            self.close()

    def pause_writing(self) -> None:
        self.paused = True
        self._resumed = self._resumed or self._loop.create_future()

    def resume_writing(self) -> None:
        self.paused = False
        if self._resumed is not None:
            if not self._resumed.done():
                self._resumed.set_result(None)
            self._resumed = None

    async def wait_until_drained(self) -> None:
        if self._resumed is not None:
            await self._resumed

    # httptools callbacks
    def on_message_begin(self) -> None:
        self._incoming = _Incoming()

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._incoming.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._incoming.body.append(body)

    def on_message_complete(self) -> None:
        incoming, parser = self._incoming, self._parser
        target, _, query = incoming.url.decode("latin-1").partition("?")
        path = _ABSOLUTE.sub("", target) or "/"
        self._requests.append(
            Request(
                method=parser.get_method().decode(),
                path=unquote(path),
                query_string=query,
                query=dict(parse_qsl(query, keep_blank_values=True)),
                headers=incoming.headers,
                body=b"".join(incoming.body),
                version=parser.get_http_version(),
                keep_alive=parser.should_keep_alive(),
            )
        )
        if self._task is None:
            self._serve_next()

    def _serve_next(self) -> None:
        self._task = self._loop.create_task(self._serve_request(self._requests.popleft()))
        self._task.add_done_callback(self._on_request_served)

    async def _serve_request(self, request: Request) -> None:
        exchange = Exchange(self, request)
        await self._app.handle_exchange(exchange)
        self.served += 1
        idle = exchange.style.idle_seconds
        if idle is not None and not self._requests and self._transport is not None:
            self._idle = self._loop.call_later(idle, self.close)
        if not exchange.finished:
            self.close()

    def _cancel_idle_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _on_request_served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self.close()
            return
        if (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a simulated server failed to answer", "exception": error})
            self.close()
        elif self._requests and self._transport is not None:
            self._serve_next()

    # writing
    def write(self, data: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(data)

    def flush(self) -> None:
        if self._outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """End the connection by RST."""
        if self._transport is None:
            return
        theirs = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError), socket.socket(fileno=os.dup(theirs.fileno())) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    @property
    def is_busy(self) -> bool:
        return self._task is not None
