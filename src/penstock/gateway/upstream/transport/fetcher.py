"""Small requests to model servers that are not calls: probes of discovery and lists of the API."""

import asyncio
from collections.abc import Callable, Mapping

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Server
from penstock.engines.base import Engine, FetchRequest, FetchResponse
from penstock.gateway.upstream.transport.authorization import authorization_headers
from penstock.gateway.upstream.transport.connection import Connection
from penstock.gateway.upstream.transport.pool import Address, Pools
from penstock.gateway.upstream.transport.response_sink import Headers

MAX_BODY_BYTES = 16 * 1024 * 1024
_NO_DEADLINE = 3600.0
"""Seconds; the caller's timeout comes first."""


class _BufferingSink:
    """Sink that collects one response, and aborts one that is too large."""

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.response: asyncio.Future[FetchResponse] = loop.create_future()
        self._connection = connection
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            message = f"{self._connection.address} sent a response of more than {MAX_BODY_BYTES} bytes."
            self._connection.abort(UpstreamGarbage(message))

    def on_end(self, is_delimited: bool) -> None:
        if not self.response.done():
            self.response.set_result(FetchResponse(self._status, b"".join(self._parts)))

    def on_failure(self, error: PenstockError) -> None:
        if not self.response.done():
            self.response.set_exception(error)

    def unsent_bytes(self) -> int:
        return 0

    def has_progressed(self) -> bool:
        return True


class Fetcher:
    """Sends small requests over the same pools as calls."""

    def __init__(self, pools: Pools, engines: Mapping[str, Engine], clock: Callable[[], float]) -> None:
        self._pools = pools
        self._engines = engines
        self._clock = clock

    async def __call__(self, server: Server, url: str, request: FetchRequest, timeout: float) -> FetchResponse:  # noqa: ASYNC109
        """Fetch within `timeout` seconds. Raises ConnectFailed, UpstreamTimeout, UpstreamCut or UpstreamGarbage."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    pool = self._pools.get(url, server.verify_tls)
                    data = self._render_request(pool.address, server, request)
                    connection = pool.take()
                    if connection is None:
                        return await self._exchange(await pool.connect(), data)
                    try:
                        return await self._exchange(connection, data)
                    except UpstreamCut:
                        if connection.response_started:
                            raise  # else the server had closed the kept connection: try the next one
        except TimeoutError:
            seconds = f"{round(timeout, 1):g} s"
            raise UpstreamTimeout(f"{url} did not respond to {request.path} within {seconds}.") from None

    def _render_request(self, address: Address, server: Server, request: FetchRequest) -> bytes:
        lines = [
            f"{request.method} {address.prefix}{request.path} HTTP/1.1".encode("latin-1"),
            f"host: {address.authority}".encode("latin-1"),
            b"accept: */*",
            b"content-length: %d" % len(request.body),
            *([b"content-type: application/json"] if request.body else ()),
            *authorization_headers(server, self._engines[server.kind]),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + request.body

    async def _exchange(self, connection: Connection, data: bytes) -> FetchResponse:
        sink = _BufferingSink(connection, asyncio.get_running_loop())
        try:
            connection.send_request(data, sink, self._clock() + _NO_DEADLINE, _NO_DEADLINE)
            return await sink.response
        finally:
            if not sink.response.done() or sink.response.cancelled():
                connection.abort()
            del sink  # it holds the response, and an error whose traceback holds this frame
