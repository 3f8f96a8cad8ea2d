"""One request and its response, written in the style of its kind of server and damaged by its fault."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

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
    """The response head of a kind of server: its constant headers, and where it differs from others.

    The connection is closed `idle_seconds` after a response, and right after `max_requests` of them.
    """

    headers: Callable[[int], Headers] = lambda _status: ()
    lower: bool = False
    chunk_above: int | None = None
    close_on_error: bool = False
    json_type: str = "application/json"
    idle_seconds: float | None = None
    max_requests: int | None = None


def http_date() -> str:
    return formatdate(time.time(), usegmt=True)


class Wire(Protocol):
    """The connection that a response is written to."""

    paused: bool
    served: int

    def write(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def reset(self) -> None: ...

    async def wait_until_drained(self) -> None: ...


class Exchange:
    """One request and its response, with the fault chosen for it, if any.

    Call either `reply` once, or `start`, any number of `send`, then `finish`. When the client disconnects, the task
    that answers is cancelled.
    """

    def __init__(self, connection: Wire, request: Request) -> None:
        self.request = request
        self.reused = connection.served > 0
        self.style = Style()
        self.fault: str | None = None
        self.faults = Faults()
        self.fault_after = 1
        self.headers: list[tuple[str, str]] = []
        self.started = False
        self.finished = False
        self.status = 0
        self._connection = connection
        self._close = not request.keep_alive
        self._chunked = False
        self._sent = 0
        self._withheld: list[bytes] | None = None
        self._withheld_type = ""

    async def reply(self, status: int, body: bytes = b"", content_type: str = "", headers: Headers = ()) -> None:
        """Answer in one piece."""
        if self.fault == "bad_json" and body:
            body = _corrupt_json(body)
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
        self._write_head(status, content_type, headers, None if chunked else length)
        if self.request.method == "HEAD" or status in _FORBIDDEN_BODY:
            body = b""
        if self.fault in _MIDDLE:
            half = len(body) // 2
            await self._write(self._frame_piece(body[:half]) if half else b"")
            await self.apply_fault()
        if body:
            await self._write(self._frame_piece(body))
        await self._end_response()

    async def start(self, status: int, content_type: str, headers: Headers = ()) -> None:
        """Start a streamed response; the head is written with the first piece."""
        self.status = status
        if self.fault in {"lie_short", "lie_long"}:
            if self._withheld is None:
                self._withheld, self._withheld_type = [], content_type
                self.headers.extend(headers)
        else:
            self._write_head(status, content_type, headers, None)

    async def send(self, piece: bytes) -> None:
        if self._withheld is not None:
            self._withheld.append(piece)
            return
        if self._sent >= self.fault_after:
            if self.fault in _MIDDLE:
                await self.apply_fault()
            elif self.fault == "bad_json":
                piece = _corrupt_json(piece)
        self._sent += 1
        await self._write(self._frame_piece(piece))

    async def finish(self) -> None:
        if self._withheld is not None:
            held, self._withheld = b"".join(self._withheld), None
            await self.reply(self.status, held, self._withheld_type)
            return
        if self.fault in _MIDDLE:
            await self.apply_fault()
        await self._end_response()

    async def apply_fault(self) -> None:
        """Apply the fault: wait, or end the connection (then this task is cancelled)."""
        if self.fault in {"hang_before", "hang_middle"}:
            await asyncio.wait(
                [asyncio.get_running_loop().create_future()], timeout=_finite_or_none(self.faults.hang_seconds)
            )
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

    def _write_head(self, status: int, content_type: str, headers: Headers, length: int | None) -> None:
        self.started, self.status = True, status
        if self.style.max_requests is not None and self._connection.served + 1 >= self.style.max_requests:
            self._close = True
        lines = [*self.style.headers(status), *self.headers, *headers]
        if content_type:
            lines.append(("Content-Type", content_type))
        is_head = self.request.method == "HEAD"
        if length is not None:
            if status not in _FORBIDDEN_BODY and (length or not is_head):
                lines.append(("Content-Length", str(length)))
        elif self.request.version == "1.0":
            self._close = True
        elif is_head:
            pass  # the length of a body that is not sent stays unknown
        else:
            lines.append(("Transfer-Encoding", "chunked"))
            self._chunked = True
        if self._close:
            lines = [(name, value) for name, value in lines if name.lower() not in {"keep-alive", "connection"}]
            lines.append(("Connection", "close"))
        lower = self.style.lower
        text = "".join(f"{name.lower() if lower else name}: {value}\r\n" for name, value in lines)
        self._connection.write(f"HTTP/1.1 {status} {_reason_phrase(status)}\r\n{text}\r\n".encode("latin-1", "replace"))

    def _frame_piece(self, piece: bytes) -> bytes:
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
            await self._connection.wait_until_drained()

    async def _end_response(self) -> None:
        if self._chunked and self.request.method != "HEAD":
            await self._write(b"0\r\n\r\n")
        self.finished = True
        self._connection.flush()
        if self._close:
            self._connection.close()


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _corrupt_json(body: bytes) -> bytes:
    """Return the first half of the bytes with an ending that is not valid JSON."""
    ending = body[len(body.rstrip(b"\r\n")) :]
    return body[: max(1, len(body.rstrip()) // 2)] + b'"}{:' + ending


def _finite_or_none(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
