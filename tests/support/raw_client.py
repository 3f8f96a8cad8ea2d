"""A client on a bare socket: it sends exactly the given bytes in the given pieces, and reads only on request.

Answers are read strictly: framing that HTTP/1.1 does not allow is a failure of the gateway.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

TIMEOUT_SECONDS = 5.0


class BrokenAnswerError(AssertionError):
    """The bytes received are not a response, or an incomplete one."""


@dataclass(slots=True)
class Answer:
    """One response. `complete` is False if the connection ended before it did; header names are in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = True

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def lines(self) -> list[Any]:
        """The objects of an NDJSON stream."""
        return [msgspec.json.decode(line) for line in self.body.splitlines() if line]

    @property
    def data(self) -> list[bytes]:
        """The `data:` of each event of an SSE stream."""
        return [line[5:].strip() for line in self.body.splitlines() if line.startswith(b"data:")]

    @property
    def text(self) -> str:
        """The text of an OpenAI chat answer, streamed or not."""
        if "event-stream" not in self.headers.get("content-type", ""):
            return str(self.json["choices"][0]["message"]["content"])
        events = [msgspec.json.decode(one) for one in self.data if one != b"[DONE]"]
        return "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices", ()))


class RawClient:
    """One connection to `127.0.0.1:port`. What was received and not yet read as an answer is in `received`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.ended = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", *, receive_buffer: int = 0) -> "RawClient":
        """Connect; with a small `receive_buffer` (bytes) the other side soon notices that nothing is read."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself: the event loop runs in between, so that they arrive separately."""
        for piece in pieces:
            await asyncio.wait_for(self._loop.sock_sendall(self.sock, piece), TIMEOUT_SECONDS)
            await run_event_loop()

    async def receive(self, patience: float = TIMEOUT_SECONDS) -> bytes:
        """Receive what is there, at least a byte; b"" at the end. Raises TimeoutError, ConnectionResetError."""
        data = await asyncio.wait_for(self._loop.sock_recv(self.sock, 1 << 18), patience)
        self.received += data
        self.ended = self.ended or not data
        return data

    async def read_rest(self, patience: float = TIMEOUT_SECONDS) -> bytes:
        """Read everything until the other side closes, cleanly or not."""
        try:
            while await self.receive(patience):
                pass
        except ConnectionResetError:
            self.ended = True
        data, self.received = self.received, bytearray()
        return bytes(data)

    async def read_answer(self, patience: float = TIMEOUT_SECONDS, *, head_only: bool = False) -> Answer:
        """Read the next answer; interim ones (1xx) are returned like any other."""
        while (end := self.received.find(b"\r\n\r\n")) < 0:
            if not await self._receive_more(patience):
                raise BrokenAnswerError(f"the connection ended after {bytes(self.received)!r}")
        answer = _parse_head(self._take(end, 4))
        if head_only or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            await self._read_chunks(answer, patience)
        elif "content-length" in answer.headers:
            await self._read_exactly(answer, int(answer.headers["content-length"]), patience)
        else:
            answer.body = await self.read_rest(patience)
        return answer

    async def _receive_more(self, patience: float) -> bool:
        try:
            return bool(await self.receive(patience))
        except ConnectionResetError:
            self.ended = True
            return False

    async def _read_exactly(self, answer: Answer, length: int, patience: float) -> None:
        while len(self.received) < length:
            if not await self._receive_more(patience):
                answer.complete = False
                length = len(self.received)
                break
        answer.body = self._take(length)

    async def _read_chunks(self, answer: Answer, patience: float) -> None:
        parts: list[bytes] = []
        while answer.complete:
            line = await self._read_line(answer, patience)
            if not answer.complete:
                break
            size = re.fullmatch(rb"([0-9a-fA-F]+)(;.*)?", line)
            if size is None:
                raise BrokenAnswerError(f"{line[:80]!r} is no chunk size; before it came {parts[-1:]!r}")
            length = int(size[1], 16)
            if not length:
                while await self._read_line(answer, patience):  # trailers
                    pass
                break
            while len(self.received) < length + 2 and answer.complete:
                answer.complete = await self._receive_more(patience)
            parts.append(self._take(length))
            if answer.complete and (end := self._take(2)) != b"\r\n":
                raise BrokenAnswerError(f"a chunk ends with {end!r}")
        answer.body = b"".join(parts)

    async def _read_line(self, answer: Answer, patience: float) -> bytes:
        while (end := self.received.find(b"\r\n")) < 0:
            if not await self._receive_more(patience):
                answer.complete = False
                return b""
        return self._take(end, 2)

    def _take(self, length: int, then: int = 0) -> bytes:
        """Take so many bytes from the received ones, and skip `then` bytes after them."""
        data = bytes(self.received[:length])
        del self.received[: length + then]
        return data

    async def is_silent(self, seconds: float = 0.05) -> bool:
        """Return True if nothing arrives for a while and the connection stays open."""
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False

    async def is_closed_by_peer(self, patience: float = TIMEOUT_SECONDS) -> bool:
        """Return True if the other side closes the connection without another byte."""
        return await self.read_rest(patience) == b""

    def half_close(self) -> None:
        """Send no more, but keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


@asynccontextmanager
async def open_client(port: int, *, receive_buffer: int = 0) -> AsyncIterator[RawClient]:
    """Open a connection that is closed at the end of the block."""
    client = await RawClient.connect(port, receive_buffer=receive_buffer)
    try:
        yield client
    finally:
        client.close()


async def run_event_loop(times: int = 3) -> None:
    """Let the event loop poll its sockets."""
    for _ in range(times):
        await asyncio.sleep(0)


def _parse_head(head: bytes) -> Answer:
    status, *lines = head.split(b"\r\n")
    match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [\x20-\x7e]*", status)
    if match is None:
        raise BrokenAnswerError(f"{status[:80]!r} is no status line")
    answer = Answer(int(match[1]))
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not re.fullmatch(rb"[a-z0-9-]+", name) or not re.fullmatch(rb" [\x20-\x7e]*", value):
            raise BrokenAnswerError(f"{line!r} is no header line")
        if name.decode() in answer.headers:
            raise BrokenAnswerError(f"{name!r} comes twice")
        answer.headers[name.decode()] = value.decode().strip()
    return answer


def post(
    path: str,
    body: Any = b"",
    *,
    headers: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    version: str = "1.1",
    length: bool = True,
) -> bytes:
    """Return the bytes of a POST; a body that is not bytes becomes JSON."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"POST {path} HTTP/{version}", f"host: {host}", "content-type: application/json", *headers]
    if length:
        lines.append(f"content-length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def get(path: str, *, headers: tuple[str, ...] = (), host: str = "127.0.0.1", method: str = "GET") -> bytes:
    """Return the bytes of a request without a body."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"host: {host}", *headers)).encode() + b"\r\n\r\n"


def chat(text: str = "hi", *, stream: bool = False, model: str = "m", **more: Any) -> dict[str, Any]:
    """Return the body of an OpenAI, Anthropic or Ollama chat."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream} | more
