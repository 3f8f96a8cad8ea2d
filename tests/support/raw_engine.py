"""A scriptable engine: it sends exactly the given bytes in the given pieces, and can hang, drip, cut or reset.

A script is `async def script(turn: Turn)`, run for every request; what it leaves open stays open. `Turn.gone` tells
when the other side hung up.
"""

import asyncio
import itertools
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from tests.support.raw_client import run_event_loop as loop_turns


@dataclass(slots=True)
class Request:
    """Request that the engine received. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Line(asyncio.Protocol):
    """One accepted connection; its requests are answered one after the other."""

    def __init__(self, engine: "RawEngine", number: int) -> None:
        self.engine = engine
        self.number = number
        self.gone = asyncio.Event()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set when it is made
        self._received = b""
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._task: asyncio.Task[None] | None = None
        self.ours_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.engine.lines.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()

    def eof_received(self) -> bool:
        self.gone.set()
        self._arrived.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._arrived.set()
        self._drained.set()
        self.engine.lines.discard(self)

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was written."""
        await self._drained.wait()

    async def _serve(self) -> None:
        while (request := await self._request()) is not None:
            self.engine.requests.append(request)
            self.engine.asked.set()
            await self.engine.script(Turn(self, request))

    async def _request(self) -> Request | None:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                return None
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        self._received = self._received[end + 4 :]
        while len(self._received) < length:
            if not await self._more():
                return None
        body, self._received = self._received[:length], self._received[length:]
        method, path, _ = first.split(" ")
        return Request(method, path, headers, body, self.number)

    async def _more(self) -> bool:
        self._arrived.clear()
        if self.gone.is_set() or self.ours_closed:
            return False
        await self._arrived.wait()
        return not self.gone.is_set() or bool(self._received and not self._arrived.is_set())

    def stop(self) -> asyncio.Task[None] | None:
        if self._task is not None:
            self._task.cancel()
        self.transport.abort()
        return self._task


class Turn:
    """One request, and the ways to answer it."""

    def __init__(self, line: Line, request: Request) -> None:
        self.line = line
        self.request = request
        self.gone = line.gone

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself, so that the other side receives them separately."""
        for piece in pieces:
            if self.gone.is_set():
                return
            self.line.transport.write(piece)
            await loop_turns()

    async def push(self, data: bytes) -> bool:
        """Send and wait until the other side takes it; return False if it has disconnected."""
        if self.gone.is_set():
            return False
        self.line.transport.write(data)
        await self.line.drain()
        return not self.gone.is_set()

    def close(self) -> None:
        """End the connection with a FIN, after the bytes sent."""
        self.line.ours_closed = True
        self.line.transport.close()

    def half_close(self) -> None:
        """Send a FIN, but keep reading."""
        self.line.transport.write_eof()

    def reset(self) -> None:
        """End the connection with an RST."""
        self.line.ours_closed = True
        sock = self.line.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.line.transport.abort()

    async def hang(self) -> None:
        """Send nothing until the other side disconnects."""
        await self.gone.wait()


Script = Callable[[Turn], Awaitable[None]]


@dataclass(slots=True)
class RawEngine:
    """The engine; an async context manager. `script` may be replaced at any time."""

    script: Script
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    prefix: str = ""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    lines: set[Line] = field(default_factory=set)
    accepted: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop_accepting()
        tasks = [task for line in tuple(self.lines) if (task := line.stop())]
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.lines:  # noqa: ASYNC110  each goes with its transport
            await asyncio.sleep(0)

    def stop_accepting(self) -> None:
        """Accept no more connections; nothing else gets the port."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self) -> Line:
        self.accepted += 1
        return Line(self, self.accepted)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]


# Scripts


def send_pieces(*pieces: bytes) -> Script:
    """Return a script that sends these pieces and leaves the connection open."""

    async def script(turn: Turn) -> None:
        await turn.send(*pieces)

    return script


def send_pieces_then(then: str, *pieces: bytes) -> Script:
    """Return a script that sends these pieces, then calls `close`, `reset`, `half_close` or `hang`."""

    async def script(turn: Turn) -> None:
        await turn.send(*pieces)
        if then == "hang":
            await turn.hang()
        else:
            getattr(turn, then)()

    return script


def run_in_order(*scripts: Script) -> Script:
    """Return a script that uses the first one for the first request, and so on; the last one for all that follow."""
    left = list(scripts)

    async def script(turn: Turn) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(turn)

    return script


# Bytes


def response(
    body: bytes, *, status: str = "200 OK", content_type: str = "application/json", headers: Iterable[str] = ()
) -> bytes:
    """Return a response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked_head(content_type: str = "text/event-stream", *, headers: Iterable[str] = ()) -> bytes:
    """Return the head of a chunked response."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def completion(text: str = "hello", model: str = "m") -> bytes:
    """Return an OpenAI chat response."""
    message = {"role": "assistant", "content": text}
    return msgspec.json.encode(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    )


def event(text: str | None = None, *, finish: str | None = None, model: str = "m") -> bytes:
    """Return one event of an OpenAI chat stream."""
    delta = {} if text is None else {"content": text}
    data = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    data["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream_events(*words: str) -> list[bytes]:
    """Return the events of a complete OpenAI chat stream."""
    return [*(event(word) for word in words), event(finish="stop"), DONE]


def stream(*words: str) -> bytes:
    """Return a complete chunked OpenAI chat stream, one event per chunk."""
    return chunked_head() + b"".join(chunk(one) for one in stream_events(*words)) + END


def ollama_lines(*words: str, model: str = "m") -> list[bytes]:
    """Return the lines of a complete Ollama chat stream."""
    line = {"model": model, "created_at": "2025-01-01T00:00:00Z"}
    lines = [line | {"message": {"role": "assistant", "content": word}, "done": False} for word in words]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    counts = {"total_duration": 10**9, "prompt_eval_count": 3, "eval_count": 2}
    return [msgspec.json.encode(one) + b"\n" for one in (*lines, line | end | counts)]


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return `data` cut at these offsets."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def remove_chunk_framing(data: bytes) -> bytes:
    """Remove the chunk framing from a chunked body."""
    out = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(re.split(rb";", size)[0], 16)
        if not length:
            break
        out, data = out + rest[:length], rest[length + 2 :]
    return out
