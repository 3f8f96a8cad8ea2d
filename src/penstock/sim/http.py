"""A small HTTP/1.1 server that can misbehave: httptools reads, and answers look as each kind of server writes them."""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast
from urllib.parse import parse_qsl, unquote

import httptools

from penstock.sim.faults import Faults

Headers = Sequence[tuple[str, str]]
_MIDDLE = frozenset({"hang_middle", "cut", "reset"})
_NOISE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is not HTTP \xff\xfe\r\n\r\n\x00"
_FORBIDDEN_BODY = frozenset({204, 304})


@dataclass(slots=True)
class Request:
    """A request in full. Header names are in lower case; `path` is decoded."""

    method: str
    path: str
    query: dict[str, str]
    query_string: str
    headers: dict[str, str]
    body: bytes
    version: str
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of server writes the head of an answer: its standing headers, and where it differs from others."""

    headers: Callable[[int], Headers] = lambda _status: ()
    lower: bool = False
    chunk_above: int | None = None
    close_on_error: bool = False
    json_type: str = "application/json"


def http_date() -> str:
    return formatdate(time.time(), usegmt=True)


class Exchange:
    """One request and the answer to it, with the fault that it was dealt, if any.

    Either `reply` once, or `start`, `send` as often as needed, `finish`. When the client leaves, the task that answers
    is cancelled.
    """

    def __init__(self, connection: "Connection", request: Request) -> None:
        self.request = request
        self.reused = connection.served > 0
        self.style = Style()
        self.fault: str | None = None
        self.faults = Faults()
        self.strike_after = 1
        self.headers: list[tuple[str, str]] = []
        self.started = False
        self.finished = False
        self.status = 0
        self._connection = connection
        self._close = not request.keep_alive
        self._chunked = False
        self._sent = 0
        self._held: list[bytes] | None = None
        self._held_type = ""

    async def reply(self, status: int, body: bytes = b"", content_type: str = "", headers: Headers = ()) -> None:
        """Answer in one piece."""
        if self.fault == "bad_json" and body:
            body = _spoilt(body)
        length = len(body)
        if self.fault == "lie_short" and length:
            length //= 2
        elif self.fault == "lie_long":
            length += 64
        chunked = (
            self.style.chunk_above is not None
            and length > self.style.chunk_above
            and self.fault not in {"lie_short", "lie_long"}
        )
        if status >= 400 and self.style.close_on_error:
            self._close = True
        self._head(status, content_type, headers, None if chunked else length)
        if self.request.method == "HEAD" or status in _FORBIDDEN_BODY:
            body = b""
        if self.fault in _MIDDLE:
            half = len(body) // 2
            await self._write(self._framed(body[:half]) if half else b"")
            await self.strike()
        if body:
            await self._write(self._framed(body))
        await self._end()

    async def start(self, status: int, content_type: str, headers: Headers = ()) -> None:
        """Begin an answer of pieces; the head goes out with the first one."""
        self.status = status
        if self.fault in {"lie_short", "lie_long"}:
            self._held, self._held_type = [], content_type
            self.headers.extend(headers)
        else:
            self._head(status, content_type, headers, None)

    async def send(self, piece: bytes) -> None:
        if self._held is not None:
            self._held.append(piece)
            return
        if self._sent >= self.strike_after:
            if self.fault in _MIDDLE:
                await self.strike()
            elif self.fault == "bad_json":
                piece = _spoilt(piece)
        self._sent += 1
        await self._write(self._framed(piece))

    async def finish(self) -> None:
        if self._held is not None:
            held, self._held = b"".join(self._held), None
            await self.reply(self.status, held, self._held_type)
            return
        if self.fault in _MIDDLE:
            await self.strike()
        await self._end()

    async def strike(self) -> None:
        """Do what the fault says: wait, or end the connection (then this task is cancelled)."""
        if self.fault in {"hang_before", "hang_middle"}:
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=_finite(self.faults.hang_seconds))
            self.fault = None
            return
        if self.fault == "garbage":
            self._connection.write(_NOISE)
        if self.fault == "reset":
            self._connection.flush()
            self._connection.reset()
        else:
            self._connection.close()
        await asyncio.get_running_loop().create_future()

    def hang_up(self) -> None:
        """End the connection after this answer."""
        self._close = True

    def _head(self, status: int, content_type: str, headers: Headers, length: int | None) -> None:
        self.started, self.status = True, status
        lines = [*self.style.headers(status), *self.headers, *headers]
        if content_type:
            lines.append(("Content-Type", content_type))
        if length is not None:
            if status not in _FORBIDDEN_BODY:
                lines.append(("Content-Length", str(length)))
        elif self.request.version == "1.0":
            self._close = True
        else:
            lines.append(("Transfer-Encoding", "chunked"))
            self._chunked = True
        if self._close:
            lines = [(name, value) for name, value in lines if name.lower() not in {"keep-alive", "connection"}]
            lines.append(("Connection", "close"))
        lower = self.style.lower
        text = "".join(f"{name.lower() if lower else name}: {value}\r\n" for name, value in lines)
        self._connection.write(f"HTTP/1.1 {status} {_phrase(status)}\r\n{text}\r\n".encode("latin-1", "replace"))

    def _framed(self, piece: bytes) -> bytes:
        if self.request.method == "HEAD":
            return b""
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    async def _write(self, data: bytes) -> None:
        if self.fault == "slow":
            step = max(1, len(data) // 16)
            for at in range(0, len(data), step):
                self._connection.write(data[at : at + step])
                self._connection.flush()
                await asyncio.sleep(self.faults.drip_seconds)
            return
        self._connection.write(data)
        if self._connection.paused:
            await self._connection.drained()

    async def _end(self) -> None:
        if self._chunked and self.request.method != "HEAD":
            await self._write(b"0\r\n\r\n")
        self.finished = True
        self._connection.flush()
        if self._close:
            self._connection.close()


class App(Protocol):
    """Who answers."""

    connections: set["Connection"]

    def accepts(self) -> bool: ...

    def handle(self, exchange: Exchange) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Incoming:
    url: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One client's connection: requests in order, one answer at a time, written out once per turn of the loop."""

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

    # asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self._app.connections.add(self)
        if not self._app.accepts():
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
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

    async def drained(self) -> None:
        if self._resumed is not None:
            await self._resumed

    # httptools' side
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
        path, _, query = incoming.url.decode("latin-1").partition("?")
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
            self._next()

    def _next(self) -> None:
        self._task = self._loop.create_task(self._serve(self._requests.popleft()))
        self._task.add_done_callback(self._served)

    async def _serve(self, request: Request) -> None:
        exchange = Exchange(self, request)
        await self._app.handle(exchange)
        self.served += 1
        if not exchange.finished:
            self.close()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self.close()
            return
        if (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a simulated server failed to answer", "exception": error})
            self.close()
        elif self._requests and self._transport is not None:
            self._next()

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
    def busy(self) -> bool:
        return self._task is not None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _spoilt(body: bytes) -> bytes:
    """The same bytes, cut in half and ending in what no JSON has."""
    ending = body[len(body.rstrip(b"\r\n")) :]
    return body[: max(1, len(body.rstrip()) // 2)] + b'"}{:' + ending


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
