"""Requests whose body is passed on piece by piece: files of any size, which are never held in memory."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from penstock.domain.errors import ConnectFailed, UpstreamCut, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Server
from penstock.engines.base import Engine, FetchResponse
from penstock.gateway.upstream.transport.authorization import authorization_headers
from penstock.gateway.upstream.transport.pool import Address, create_tls_context

MAX_RESPONSE = 64 * 1024
"""Bytes of a response that are read: a status and a short text."""
STALL_TIMEOUT = 60.0
"""Seconds that a server has to accept the next piece, and to check the complete file for each GB of it."""
_BYTES_PER_CHECK = 1 << 30
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Upload:
    """A request with the pieces of its body, if it has one; `length` is None if the client did not state it."""

    method: str
    path: str
    length: int | None = None
    pieces: AsyncIterable[bytes] | None = None


UploadFunction: TypeAlias = Callable[[Server, str, Upload], Awaitable[FetchResponse]]
"""Sends an upload to one URL of a server."""


class Uploader:
    """Sends uploads, each on a connection of its own, which ends with the response."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    async def __call__(self, server: Server, url: str, upload: Upload) -> FetchResponse:
        """Send an upload. Raises ConnectFailed, UpstreamTimeout, UpstreamCut or UpstreamGarbage."""
        address = Address.parse(url)
        try:
            async with _open_connection(address, server) as (reader, writer):
                writer.write(self._render_head(address, server, upload))
                head = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
                try:
                    size = await _send_pieces(writer, upload, head)
                    async with asyncio.timeout(STALL_TIMEOUT * (1 + size // _BYTES_PER_CHECK)):
                        status_line = await head
                        body = await _read_rest(reader) if upload.method != "HEAD" else b""
                finally:
                    head.cancel()
        except TimeoutError:
            raise UpstreamTimeout(f"{url} did not take the file within {STALL_TIMEOUT:g} s.") from None
        except (OSError, asyncio.IncompleteReadError):
            raise UpstreamCut(f"{url} closed the connection before it had answered.") from None
        except asyncio.LimitOverrunError:
            raise UpstreamGarbage(f"{url} sent something that is not an HTTP response.") from None
        return _parse_response(status_line, body, url)

    def _render_head(self, address: Address, server: Server, upload: Upload) -> bytes:
        has_body = upload.pieces is not None
        framing = b"transfer-encoding: chunked" if upload.length is None else b"content-length: %d" % upload.length
        lines = [
            f"{upload.method} {address.prefix}{upload.path} HTTP/1.1".encode("latin-1"),
            f"host: {address.authority}".encode("latin-1"),
            b"accept: */*",
            b"connection: close",
            *([framing, b"content-type: application/octet-stream"] if has_body else ()),
            *authorization_headers(server, self._engines[server.kind]),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n"


@asynccontextmanager
async def _open_connection(
    address: Address, server: Server
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    tls = create_tls_context(server.verify_tls) if address.tls else None
    try:
        async with asyncio.timeout(STALL_TIMEOUT):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    except OSError as error:
        raise ConnectFailed(f"{address} accepts no connection: {error.strerror or error}.") from None
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _send_pieces(writer: asyncio.StreamWriter, upload: Upload, head: "asyncio.Future[bytes]") -> int:
    """Send the body until the server answers: it needs no file that it has. Return the number of bytes."""
    size = 0
    if upload.pieces is None:
        return size
    with suppress(ConnectionError):  # the server may have answered before it closed
        async for piece in upload.pieces:
            if head.done():
                return size
            if piece:
                size += len(piece)
                writer.write(piece if upload.length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
                async with asyncio.timeout(STALL_TIMEOUT):
                    await writer.drain()
        if upload.length is None:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
    return size


async def _read_rest(reader: asyncio.StreamReader) -> bytes:
    body = b""
    with suppress(ConnectionError):
        while len(body) < MAX_RESPONSE and (piece := await reader.read(MAX_RESPONSE)):
            body += piece
    return body


def _parse_response(head: bytes, body: bytes, url: str) -> FetchResponse:
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise UpstreamGarbage(f"{url} sent something that is not an HTTP response.")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        size, _, content = body.partition(b"\r\n")
        body = content[: int(size, 16)] if _CHUNK_SIZE.fullmatch(size) else b""
    return FetchResponse(int(rest[:3]), body[:MAX_RESPONSE])
