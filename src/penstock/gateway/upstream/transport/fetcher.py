"""Small requests to engines that are not calls: what discovery and the console ask of a server."""

import asyncio
from collections.abc import Callable, Mapping

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Server
from penstock.engines.base import Engine, FetchRequest, FetchResponse
from penstock.gateway.upstream.transport.authorization import authorization_headers
from penstock.gateway.upstream.transport.connection import Connection, Headers
from penstock.gateway.upstream.transport.pool import Pools

MAX_BODY = 16 * 1024 * 1024


class _Whole:
    """Gathers one answer; gives up on one that is too large."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self.done: asyncio.Future[FetchResponse] = loop.create_future()
        self.connection: Connection | None = None
        self._address = address
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def head(self, status: int, headers: Headers) -> None:
        self._status = status

    def body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BODY and self.connection is not None:
            self.connection.abort(UpstreamGarbage(f"{self._address} answered with more than {MAX_BODY} bytes"))

    def end(self, whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(FetchResponse(self._status, b"".join(self._parts)))

    def unread(self) -> int:
        return 0

    def failed(self, error: PenstockError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Fetcher:
    """Fetches over the same pools as calls."""

    def __init__(self, pools: Pools, engines: Mapping[str, Engine], clock: Callable[[], float]) -> None:
        self._pools = pools
        self._engines = engines
        self._clock = clock

    async def __call__(self, server: Server, url: str, what: FetchRequest, timeout: float) -> FetchResponse:  # noqa: ASYNC109
        """Fetch within `timeout` seconds. Raises ConnectFailed, UpstreamTimeout, UpstreamCut or UpstreamGarbage."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    pool = self._pools.get(url, server.verify_tls)
                    connection = pool.take()
                    fresh = connection is None
                    if connection is None:
                        connection = await pool.connect()
                    try:
                        return await self._through(
                            connection, pool.address.prefix, pool.address.authority, server, what
                        )
                    except UpstreamCut:
                        if fresh or connection.started:
                            raise
        except TimeoutError:
            raise UpstreamTimeout(f"{url} did not answer {what.path} within {round(timeout, 1):g} s") from None

    async def _through(
        self, connection: Connection, prefix: str, authority: str, server: Server, what: FetchRequest
    ) -> FetchResponse:
        lines = [
            f"{what.method} {prefix}{what.path} HTTP/1.1",
            f"host: {authority}",
            "accept: */*",
            f"content-length: {len(what.body)}",
            *(["content-type: application/json"] if what.body else ()),
            *(line.decode("latin-1") for line in authorization_headers(server, self._engines[server.kind])),
        ]
        sink = _Whole(asyncio.get_running_loop(), connection.address)
        sink.connection = connection
        never = self._clock() + 3600.0  # the caller's time-out comes first
        try:
            connection.request("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + what.body, sink, never, 3600.0)
            return await sink.done
        finally:
            if not sink.done.done() or sink.done.cancelled():
                connection.abort()
