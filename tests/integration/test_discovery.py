"""Finding model servers and keeping an eye on them, against real sockets that refuse, hang, lie and babble."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest

from penstock.control.discovery import Watcher
from penstock.domain.call import Operation
from penstock.domain.errors import ConnectFailed, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Fleet, Inventory, Model, Server, ServerStatus, State
from penstock.engines.base import Fetch, Fetched
from penstock.gateway.catalog import Catalog

LARGEST = 1 << 20


class Lister:
    """An engine whose servers list their models as a JSON array of names at /list."""

    kind = "lister"
    title = "Ollama"
    native: Mapping[str, str] = MappingProxyType({})
    operations: frozenset[Operation] = frozenset()

    def inspect(self, known: tuple[Model, ...]) -> Generator[Fetch, Fetched, Inventory]:
        fetched = yield Fetch("/list")
        if fetched.status == 503:
            return Inventory((), State.LOADING, detail="loading")
        names = json.loads(fetched.body)
        extra = yield Fetch("/version", optional=True)
        version = extra.body.decode() if extra.status == 200 else ""
        return Inventory(tuple(Model(name) for name in names), version=version, slots=3)


class TinyServer:
    """A real server on a free port of 127.0.0.1. `fault` is "", hang, garbage, huge, cut, loading or nonsense."""

    def __init__(self, *models: str, fault: str = "", port: int = 0) -> None:
        self.models = list(models)
        self.fault = fault
        self.port = port
        self.requests = 0
        self.open = 0
        self.most_open = 0
        self.asked = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
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
        self.most_open = max(self.most_open, self.open)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            self.asked.set()
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
            body = b"[" + b" " * (4 * LARGEST)
        length = len(body) + (10 if self.fault == "cut" else 0)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, length) + body)
        await writer.drain()


async def fetch(server: Server, url: str, what: Fetch, seconds: float) -> Fetched:
    """A client just good enough for tests, with the contract of the real one."""
    try:
        async with asyncio.timeout(seconds):
            return await _fetch(url, what)
    except TimeoutError:
        raise UpstreamTimeout(f"{url} did not answer within {seconds:.1f} s") from None


async def _fetch(url: str, what: Fetch) -> Fetched:
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
        if length > LARGEST:
            raise UpstreamGarbage("the body is too long")
        return Fetched(status, await reader.readexactly(length))
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise UpstreamGarbage("not HTTP") from error
    finally:
        writer.transport.abort()


class Watching:
    """A watcher over a catalog that tells when it publishes. Looks are quick, so that tests are."""

    def __init__(self, *servers: Server, interval: float = 0.05, first_retry: float = 0.02, **more: object) -> None:
        self.catalog = TellingCatalog()
        engine = more.pop("engine", None) or Lister()
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
        await self.watcher.first_look()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watcher.stop()

    def status(self, name: str) -> ServerStatus:
        return next(s for s in self.catalog.fleet.statuses if s.server.name == name)

    @property
    def names(self) -> list[str]:
        return [s.server.name for s in self.catalog.fleet.statuses]

    async def until(self, true: Callable[[Fleet], bool]) -> None:
        async with asyncio.timeout(10):
            while not true(self.catalog.fleet):
                self.catalog.published.clear()
                await self.catalog.published.wait()


class TellingCatalog(Catalog):
    def __init__(self) -> None:
        super().__init__()
        self.published = asyncio.Event()

    def publish(self, statuses) -> Fleet:
        fleet = super().publish(statuses)
        self.published.set()
        return fleet


def server(name: str, *tiny: TinyServer, **more: object) -> Server:
    return Server(name, "lister", tuple(t.url for t in tiny), **more)


def state_is(name: str, state: State) -> Callable[[Fleet], bool]:
    return lambda fleet: any(s.server.name == name and s.state is state for s in fleet.statuses)


@pytest.fixture
async def good() -> AsyncIterator[TinyServer]:
    async with TinyServer("m1", "m2:latest") as tiny:
        yield tiny


@pytest.fixture
async def away() -> AsyncIterator[TinyServer]:
    tiny = TinyServer()
    await tiny.start()
    await tiny.stop()
    yield tiny
    await tiny.stop()


async def test_the_first_look_publishes_what_each_server_has_and_logs_the_agreed_lines(good, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with TinyServer("m1", "m3") as other, Watching(server("primary", good), server("localhost", other)) as w:
        assert [m.name for m in w.status("primary").models] == ["m1", "m2:latest"]
        assert w.status("primary").version == "1.2.3"
        assert w.status("primary").slots == 3
        assert w.status("primary").url == good.url
        assert 0 < w.status("primary").response_time < 0.3
        assert {d.server.name for d in w.catalog.fleet.deployments["m1"]} == {"primary", "localhost"}
    lines = [r.getMessage() for r in caplog.records]
    ms = [f"{s.response_time * 1000:.0f}ms" for s in w.catalog.fleet.statuses]
    assert lines == [
        "Discovering Ollama servers and models...",
        f"Server primary ({good.url}): 2 models, {ms[0]}",
        f"Server localhost ({other.url}): 2 models, {ms[1]}",
        "Discovery complete: 2/2 servers available, 3 unique models",
    ]


@pytest.mark.parametrize("fault", ["hang", "garbage", "huge", "cut", "nonsense"])
async def test_a_server_that_misbehaves_costs_only_its_own_state(good, fault, caplog):
    async with TinyServer(fault=fault) as bad, Watching(server("bad", bad), server("good", good)) as w:
        assert w.status("bad").state is State.DOWN
        assert w.status("bad").error
        assert w.status("good").up
    about = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(about) == 1
    assert "bad" in about[0]


async def test_a_hanging_server_delays_the_first_look_by_the_time_out_and_no_more(good):
    async with TinyServer(fault="hang") as bad:
        began = time.monotonic()
        async with Watching(server("bad", bad), server("bad2", bad), server("good", good)) as w:
            assert time.monotonic() - began < 2.0
            assert "did not answer" in w.status("bad").error


async def test_a_configured_server_that_is_away_gets_one_warning_with_address_reason_and_setting(away, caplog):
    async with Watching(server("primary", away, setting="llm.providers.ollama.base_url")) as w:
        await w.until(lambda fleet: w.catalog.fleet.version > 4)
        assert w.status("primary").state is State.DOWN
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert all(part in warnings[0] for part in (away.url, "connection refused", "llm.providers.ollama.base_url"))


async def test_a_default_address_where_nothing_answers_is_silent_and_no_part_of_the_fleet(away, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with Watching(server("localhost", away, configured=False)) as w:
        assert w.catalog.fleet.statuses == ()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert "Discovery complete: 0/0 servers available, 0 unique models" in caplog.text


async def test_a_default_address_joins_when_something_answers_there_and_stays_when_it_goes(away, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with Watching(server("localhost", away, configured=False)) as w:
        away.models = ["m"]
        await away.start()
        await w.until(state_is("localhost", State.UP))
        await away.stop()
        await w.until(state_is("localhost", State.DOWN))
    assert f"Server localhost ({away.url}): 1 models" in caplog.text


async def test_a_server_that_goes_and_comes_back_is_told_of_once_each(good, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with Watching(server("a", good)) as w:
        await good.stop()
        await w.until(state_is("a", State.DOWN))
        assert [m.name for m in w.status("a").models] == ["m1", "m2:latest"]
        before = w.catalog.fleet.version
        await w.until(lambda fleet: fleet.version >= before + 3)
        await good.start()
        await w.until(state_is("a", State.UP))
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Server a is")]
    assert len(lines) == 2
    assert lines[0].startswith("Server a is down: connection refused")
    assert lines[1].startswith("Server a is up again: 2 models, ")


async def test_a_loading_server_is_no_candidate_until_it_is_ready(caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with TinyServer("m", fault="loading") as tiny, Watching(server("a", tiny)) as w:
        assert w.status("a").state is State.LOADING
        tiny.fault = ""
        await w.until(state_is("a", State.UP))
    assert "Server a is ready: 1 models" in caplog.text


async def test_a_suspected_server_is_looked_at_at_once(good):
    async with Watching(server("a", good), interval=600) as w:
        await good.stop()
        began = time.monotonic()
        w.watcher.suspect("a")
        w.watcher.suspect("nobody")
        await w.until(state_is("a", State.DOWN))
        assert time.monotonic() - began < 5


async def test_there_is_never_more_than_one_look_in_flight_at_a_server():
    async with TinyServer(fault="hang") as tiny, Watching(server("a", tiny), timeout=0.1) as w:
        for _ in range(5):
            tiny.asked.clear()
            w.watcher.suspect("a")
            async with asyncio.timeout(5):
                await tiny.asked.wait()
        assert tiny.most_open == 1


async def test_the_first_of_a_servers_addresses_that_answers_is_used_and_found_again_when_it_moves(good, away):
    async with TinyServer("m1") as second, Watching(server("a", away, good, second)) as w:
        assert w.status("a").url == good.url
        await good.stop()
        await w.until(lambda fleet: fleet.statuses[0].url == second.url)
        await away.start()
        await w.until(lambda fleet: fleet.statuses[0].url == away.url)
        assert w.catalog.fleet.statuses[0].up


async def test_a_server_without_any_address_that_answers_says_what_each_said(away):
    other = TinyServer()
    await other.start()
    await other.stop()
    async with Watching(server("a", away, other)) as w:
        assert "connection refused" in w.status("a").error


async def test_an_engine_that_fails_unexpectedly_is_logged_once_with_its_type(good, caplog):
    class Broken(Lister):
        def inspect(self, known):
            yield Fetch("/list")
            raise ZeroDivisionError("boom")

    async with Watching(server("a", good), engine=Broken()) as w:
        await w.until(lambda fleet: fleet.version > 5)
        assert w.status("a").state is State.DOWN
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert errors == ["Looking at server a failed: ZeroDivisionError: boom"]


async def test_an_engine_that_never_stops_fetching_is_broken_off(good):
    class Endless(Lister):
        def inspect(self, known):
            while True:
                yield Fetch("/list", optional=True)

    async with Watching(server("a", good), engine=Endless(), timeout=0.05) as w:
        assert w.status("a").state is State.DOWN


async def test_an_optional_fetch_that_fails_costs_only_what_it_would_have_told(good):
    class Curious(Lister):
        def inspect(self, known):
            found = yield from super().inspect(known)
            missing = yield Fetch("/never", optional=True)
            return Inventory(found.models, detail=str(missing.status))

    async with Watching(server("a", good), engine=Curious()) as w:
        assert w.status("a").up
        assert w.status("a").detail == "0"


async def test_an_unknown_kind_is_down_and_says_so(good):
    async with Watching(Server("a", "strange", (good.url,))) as w:
        assert "strange" in w.status("a").error


async def test_simulated_servers_leave_for_good_when_the_first_real_one_with_a_model_is_found(away, good):
    found: list[ServerStatus] = []
    default = server("localhost", away, configured=False)
    simulated = server("remote", good, simulated=True)
    async with Watching(default, simulated, on_real_server=found.append) as w:
        assert w.catalog.fleet.simulated
        await away.start()
        await w.until(lambda fleet: away.requests >= 2)
        assert w.names == ["remote"]
        away.models = ["m"]
        await w.until(state_is("localhost", State.UP))
        assert w.names == ["localhost"]
        assert [status.server.name for status in found] == ["localhost"]
        await away.stop()
        await w.until(state_is("localhost", State.DOWN))
        w.watcher.set_servers([default, simulated])
        assert w.names == ["localhost"]


async def test_a_reload_adds_changes_and_removes_servers_without_touching_the_others(good):
    async with (
        TinyServer("x") as one,
        TinyServer("y") as two,
        TinyServer("z") as three,
        Watching(server("stay", good), server("go", one), server("change", two), interval=600) as w,
    ):
        w.catalog.live["stay"].running = 4
        looks = good.requests
        changed = server("change", three)
        w.watcher.set_servers([server("new", one), changed, server("stay", good)])
        assert w.status("change").state is State.UNKNOWN
        await w.watcher.first_look()
        assert w.names == ["new", "change", "stay"]
        assert [m.name for m in w.status("change").models] == ["z"]
        assert w.catalog.live["stay"].running == 4
        assert good.requests == looks
        assert "go" not in w.catalog.live


async def test_a_changed_priority_or_list_of_models_keeps_what_is_known(good):
    async with Watching(server("a", good), interval=600) as w:
        w.watcher.set_servers([server("a", good, models=("m1",))])
        assert w.status("a").up
        await w.until(lambda fleet: len(fleet.statuses[0].models) == 1)


async def test_stopping_leaves_no_task_behind_even_while_looks_hang(good):
    before = asyncio.all_tasks()
    async with TinyServer(fault="hang") as bad, TinyServer(fault="hang") as worse:
        w = Watching(server("a", bad), server("b", good, worse), timeout=60)
        w.watcher.start()
        async with asyncio.timeout(5):
            await bad.asked.wait()
        await w.watcher.stop()
        mine = [t for t in asyncio.all_tasks() - before if (t.get_name() or "").startswith("watch")]
        assert mine == []


async def test_a_watcher_without_servers_is_content(caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with Watching() as w:
        assert w.watcher.looked
    assert "Discovery complete: 0/0" in caplog.text
