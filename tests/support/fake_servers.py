"""Small model servers that misbehave on demand, and a watcher that probes them at short intervals."""

import asyncio
import json
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import urlsplit

from penstock.control.discovery.watcher import Watcher
from penstock.domain.errors import ConnectFailed, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Fleet, Inventory, Model, Server, ServerStatus, State
from penstock.domain.request import Operation
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.gateway.fleet.catalog import Catalog

MAX_BODY = 1 << 20


class ListingEngine:
    """An engine whose servers list their models as a JSON array of names at /list."""

    kind = "lister"
    title = "Ollama"
    native_paths: Mapping[str, str] = MappingProxyType({})
    operations: frozenset[Operation] = frozenset()

    def inspect_server(self, known: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        fetched = yield FetchRequest("/list")
        if fetched.status == 503:
            return Inventory((), State.LOADING, detail="loading")
        names = json.loads(fetched.body)
        extra = yield FetchRequest("/version", optional=True)
        version = extra.body.decode() if extra.status == 200 else ""
        return Inventory(tuple(Model(name) for name in names), version=version, slots=3)


class FakeServer:
    """A real server on a free port of loopback. `fault` is "", hang, garbage, huge, cut, loading or nonsense."""

    def __init__(self, *models: str, fault: str = "", port: int = 0, host: str = "127.0.0.1") -> None:
        self.models = list(models)
        self.fault = fault
        self.port = port
        self.host = host
        self.requests = 0
        self.open = 0
        self.max_open = 0
        self.requested = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.open += 1
        self.max_open = max(self.max_open, self.open)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            self.requested.set()
            await self._answer(head.split(b" ")[1], reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "hang" or path == b"/never":
            await reader.read()
            return
        if self.fault == "garbage":
            writer.write(b"\x00\xff" * 64)
            return
        status, body = 200, json.dumps(self.models).encode()
        if path == b"/version":
            body = b"1.2.3"
        if self.fault == "loading":
            status = 503
        if self.fault == "nonsense":
            body = b"{not json"
        if self.fault == "huge":
            body = b"[" + b" " * (4 * MAX_BODY)
        length = len(body) + (10 if self.fault == "cut" else 0)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, length) + body)
        await writer.drain()


async def fetch(server: Server, url: str, what: FetchRequest, seconds: float) -> FetchResponse:
    """Fetch as the real client does, but with the least code that tests need."""
    try:
        async with asyncio.timeout(seconds):
            return await _fetch(url, what)
    except TimeoutError:
        raise UpstreamTimeout(f"{url} did not answer within {seconds:.1f} s") from None


async def _fetch(url: str, what: FetchRequest) -> FetchResponse:
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError as error:
        raise ConnectFailed(f"connection refused ({error.errno})") from error
    try:
        head = f"{what.method} {what.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(what.body)}\r\n\r\n"
        writer.write(head.encode() + what.body)
        status = int((await reader.readuntil(b"\r\n")).split(b" ")[1])
        headers = await reader.readuntil(b"\r\n\r\n")
        length = int(headers.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if length > MAX_BODY:
            raise UpstreamGarbage("the body is too long")
        return FetchResponse(status, await reader.readexactly(length))
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise UpstreamGarbage("not HTTP") from error
    finally:
        writer.transport.abort()


class WatchedFleet:
    """A watcher over a catalog that signals each publication. It probes at short intervals to keep tests fast."""

    def __init__(self, *servers: Server, interval: float = 0.05, first_retry: float = 0.02, **more: object) -> None:
        self.catalog = RecordingCatalog()
        engine = more.pop("engine", None) or ListingEngine()
        self.watcher = Watcher(
            servers,
            {"lister": engine},
            self.catalog,
            fetch,
            interval=interval,
            timeout=more.pop("timeout", 0.3),
            first_retry=first_retry,
            search_interval=more.pop("search_interval", 0.05),
            **more,
        )

    async def __aenter__(self) -> Self:
        self.watcher.start()
        await self.watcher.wait_for_first_probes()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watcher.stop()

    def status(self, name: str) -> ServerStatus:
        return next(s for s in self.catalog.fleet.statuses if s.server.name == name)

    @property
    def names(self) -> list[str]:
        return [s.server.name for s in self.catalog.fleet.statuses]

    async def wait_until(self, true: Callable[[Fleet], bool]) -> None:
        async with asyncio.timeout(10):
            while not true(self.catalog.fleet):
                self.catalog.published.clear()
                await self.catalog.published.wait()

    async def wait_for_probes(self, many: int) -> None:
        """Wait until so many more probes have been published."""
        until = self.catalog.publish_count + many
        await self.wait_until(lambda _: self.catalog.publish_count >= until)


class RecordingCatalog(Catalog):
    def __init__(self) -> None:
        super().__init__()
        self.published = asyncio.Event()
        self.publish_count = 0

    def publish(self, statuses) -> Fleet:
        fleet = super().publish(statuses)
        self.publish_count += 1
        self.published.set()
        return fleet


def listing_server(name: str, *tiny: FakeServer, **more: object) -> Server:
    return Server(name, "lister", tuple(t.url for t in tiny), **more)


def state_is(name: str, state: State) -> Callable[[Fleet], bool]:
    return lambda fleet: any(s.server.name == name and s.state is state for s in fleet.statuses)
