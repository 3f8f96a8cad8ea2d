"""A client that shows an answer as it came: header names as written, in order, and whether the body was whole."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec


@dataclass(slots=True)
class Answer:
    """What came back. `ended` is how: whole, cut (FIN too early), reset (RST), garbage, silent (nothing more came)."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    ended: str = ""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def lines(self) -> list[Any]:
        return [msgspec.json.decode(line) for line in self.body.splitlines()]

    @property
    def error(self) -> str:
        return str(self.json["error"])


class _Reader:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers.append((name.decode(), value.decode()))

    def on_body(self, body: bytes) -> None:
        self.answer.body += body
        self.answer.pieces.append(body)

    def on_message_complete(self) -> None:
        self.whole = True


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader, self.writer, self.host = reader, writer, host

    @classmethod
    async def to(cls, url: str) -> "Line":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader, writer, parts.netloc)

    async def send(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        kind = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        given = {"Host": self.host, "Content-Length": str(len(data)), **kind, **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        await self.writer.drain()

    async def receive(self, method: str = "GET", *, patience: float = 5.0) -> Answer:
        """Read one answer; what has not come within `patience` seconds is not waited for."""
        answer = Answer()
        reader = _Reader(answer)
        parser = httptools.HttpResponseParser(reader)
        while not reader.whole:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), patience)
            except TimeoutError:
                answer.ended = "silent"
                break
            except ConnectionResetError:
                answer.ended = "reset"
                break
            if not data:
                length, chunked = answer.header("content-length"), answer.header("transfer-encoding")
                answer.ended = "whole" if answer.status and not length and not chunked else "cut"
                break
            answer.raw += data
            try:
                parser.feed_data(data)
            except httptools.HttpParserError:
                answer.ended = "whole" if reader.whole else "garbage"
                break
            answer.status = parser.get_status_code() or 0
            if method == "HEAD" and b"\r\n\r\n" in answer.raw:
                break
        answer.ended = answer.ended or "whole"
        return answer

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


async def ask(
    url: str,
    method: str,
    path: str,
    body: Any = b"",
    *,
    headers: dict[str, str] | None = None,
    patience: float = 5.0,
) -> Answer:
    """One request on a connection of its own."""
    line = await Line.to(url)
    try:
        await line.send(method, path, body, headers)
        return await line.receive(method, patience=patience)
    except ConnectionResetError:
        return Answer(ended="reset")
    finally:
        await line.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait, at most five seconds, for what another task is about to do."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is waited for may be in another process
            await asyncio.sleep(0.001)
