"""Discovery of servers that nobody configured; mDNS is replaced by a table."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from penstock.control.discovery import lan_search
from penstock.control.discovery.dns_sd import Announcement, Service
from penstock.control.discovery.lan_search import OLLAMA_SERVICE, PENSTOCK_SERVICE, LanSearch, LanSearchSettings
from penstock.control.discovery.name_resolution import MdnsResolver
from penstock.domain.fleet import Fleet, State
from tests.support.fake_servers import FakeServer, ListingEngine, WatchedFleet, listing_server, state_is


@dataclass
class FakeMdns:
    """An mDNS client with fixed names and services; records what is announced."""

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    announced_services: dict[str, list[Service]] = field(default_factory=dict)
    browsed: set[str] = field(default_factory=set)
    announced: Announcement | None = None
    on_services_changed: object = None

    async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        return self.names.get(name, ())

    def list_services(self, type_: str) -> tuple[Service, ...]:
        return tuple(self.announced_services.get(type_, ())) if type_ in self.browsed else ()

    def start_browsing(self, type_: str) -> None:
        self.browsed.add(type_)

    def stop_browsing(self, type_: str) -> None:
        self.browsed.discard(type_)

    def set_announcement(self, announcement: Announcement | None) -> None:
        self.announced = announcement

    def publish(self, type_: str, *services: Service) -> None:
        self.announced_services[type_] = list(services)
        self.on_services_changed()


class OllamaEngine(ListingEngine):
    """Found servers are of kind ollama."""

    kind = "ollama"


@contextlib.asynccontextmanager
async def run_search(
    w: WatchedFleet, mdns: FakeMdns, settings: LanSearchSettings, **more: object
) -> AsyncIterator[LanSearch]:
    w.watcher._engines = {"lister": ListingEngine(), "ollama": OllamaEngine()}
    names = MdnsResolver(mdns)
    w.watcher._prober._resolver = names
    active = LanSearch(w.watcher, mdns, names, **{"interval": 0.05, "hostnames": ()} | more)  # type: ignore[arg-type]
    active.apply(settings)
    try:
        yield active
    finally:
        await active.stop()


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer("m1", host="127.0.0.3") as fake:
        yield fake


@pytest.fixture(autouse=True)
def every_loopback_address_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "penstock.control.discovery.name_resolution.is_own_address", lambda number: number in ("127.0.0.1", "::1")
    )


def is_gone(name: str):
    return lambda fleet: not any(status.server.name == name for status in fleet.statuses)


def models_at(fleet: Fleet, name: str) -> list[str]:
    return [model.name for status in fleet.statuses if status.server.name == name for model in status.models]


def service(fake: FakeServer, name: str = "GPU box", host: str = "gpu.local") -> Service:
    return Service(name, host, fake.port, (fake.host,))


async def test_an_announced_server_joins_and_leaves_when_it_stops(fake):
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    async with WatchedFleet() as w, run_search(w, mdns, LanSearchSettings(mdns=True)):
        mdns.publish(OLLAMA_SERVICE, service(fake))
        await w.wait_until(state_is("GPU-box", State.UP))
        assert w.status("GPU-box").url == fake.url
        assert w.status("GPU-box").server.urls == (f"http://gpu.local:{fake.port}",)

        mdns.publish(OLLAMA_SERVICE)
        await w.wait_for_probes(4)
        assert w.status("GPU-box").is_up  # it announces nothing any more, but it answers

        await fake.stop()
        await w.wait_until(is_gone("GPU-box"))


async def test_a_configured_server_is_not_found_under_another_name(fake):
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    configured = listing_server("primary", fake)
    async with WatchedFleet(configured) as w, run_search(w, mdns, LanSearchSettings((configured,), mdns=True)):
        async with FakeServer("m2", host="127.0.0.4") as other:
            mdns.names["other.local"] = (other.host,)
            mdns.publish(OLLAMA_SERVICE, service(fake), service(other, "other", "other.local"))
            await w.wait_until(state_is("other", State.UP))
        assert w.names == ["primary", "other"]


async def test_a_server_with_a_new_address_keeps_its_name(fake):
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    moved = FakeServer("m1", "m2", host="127.0.0.5", port=fake.port)
    async with moved, WatchedFleet(interval=600) as w, run_search(w, mdns, LanSearchSettings(mdns=True)):
        mdns.publish(OLLAMA_SERVICE, service(fake))
        await w.wait_until(state_is("GPU-box", State.UP))
        w.catalog.loads["GPU-box"].running = 1

        mdns.names["gpu.local"] = (moved.host,)
        w.watcher.report_moved_host("gpu.local")

        await w.wait_until(lambda fleet: models_at(fleet, "GPU-box") == ["m1", "m2"])
        assert w.status("GPU-box").url == moved.url
        assert w.catalog.loads["GPU-box"].running == 1


async def test_a_failed_call_resolves_the_name_of_its_server_again(fake):
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    moved = FakeServer("m1", host="127.0.0.5", port=fake.port)
    primary = listing_server("primary", fake)
    named = type(primary)("primary", "lister", (f"http://gpu.local:{fake.port}",))
    async with moved, WatchedFleet(interval=600) as w, run_search(w, mdns, LanSearchSettings((named,))):
        w.watcher.set_servers([named])
        await w.wait_until(state_is("primary", State.UP))
        await fake.stop()
        mdns.names["gpu.local"] = (moved.host,)
        w.watcher.request_probe("primary")
        await w.wait_until(lambda fleet: fleet.statuses[0].url == moved.url)


async def test_common_names_of_one_address_are_one_server(fake, monkeypatch):
    monkeypatch.setattr(lan_search, "OLLAMA_PORT", fake.port)
    mdns = FakeMdns({"ollama.local": (fake.host,), "ollama-server.local": (fake.host,)})
    async with (
        WatchedFleet() as w,
        run_search(w, mdns, LanSearchSettings(mdns=True), hostnames=lan_search.COMMON_HOSTNAMES),
    ):
        await w.wait_until(state_is("ollama.local", State.UP))
        assert w.names == ["ollama.local"]


async def test_only_configured_subnets_are_scanned(fake, monkeypatch):
    monkeypatch.setattr(lan_search, "OLLAMA_PORT", fake.port)
    contacted: list[str] = []

    async def connect(host: str, port: int) -> bool:
        contacted.append(host)
        return host == fake.host

    async with (
        WatchedFleet() as w,
        run_search(w, FakeMdns(), LanSearchSettings(mdns=True), connect=connect) as active,
    ):
        active.apply(LanSearchSettings(subnets=("127.0.0.0/29",)))
        await w.wait_until(state_is(fake.host, State.UP))
        active.apply(LanSearchSettings(mdns=True))
        await w.wait_until(is_gone(fake.host))
    assert contacted == [f"127.0.0.{n}" for n in range(1, 7)]


async def test_other_gateways_are_listed_but_never_used(fake, caplog):
    caplog.set_level(logging.INFO, "penstock")
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    peer = Service("Penstock on gpu", "gpu.local", fake.port, (fake.host,), {"version": "9"})
    own = Service("Penstock here", "me.local", 8005, ("127.0.0.1",))
    search = LanSearchSettings(mdns=True, port=8005)
    async with (
        FakeServer("m", host="127.0.0.4") as other,
        WatchedFleet() as w,
        run_search(w, mdns, search) as active,
    ):
        mdns.publish(PENSTOCK_SERVICE, peer, own)
        mdns.publish(OLLAMA_SERVICE, service(fake), service(other, "other", other.host))
        await w.wait_until(state_is("other", State.UP))
        assert [(one.name, one.url, one.version) for one in active.other_gateways] == [
            ("Penstock on gpu", f"http://gpu.local:{fake.port}", "9")
        ]
        assert w.names == ["other"]
        assert fake.requests == 0
    lines = [r.getMessage() for r in caplog.records if "Another gateway" in r.getMessage()]
    assert len(lines) == 1


async def test_a_reload_that_disables_the_search_removes_found_servers(fake):
    mdns = FakeMdns({"gpu.local": (fake.host,)})
    announcement = Announcement("_penstock._tcp", "me", 8005)
    async with (
        WatchedFleet() as w,
        run_search(w, mdns, LanSearchSettings(mdns=True, announcement=announcement)) as active,
    ):
        assert mdns.announced == announcement
        mdns.publish(OLLAMA_SERVICE, service(fake))
        await w.wait_until(state_is("GPU-box", State.UP))

        active.apply(LanSearchSettings())

        await w.wait_until(is_gone("GPU-box"))
        assert mdns.announced is None
        assert mdns.browsed == set()


async def test_a_failed_search_is_logged_once_and_repeated(fake, caplog):
    class FailingMdns(FakeMdns):
        failing = True

        async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
            if self.failing:
                self.failing = False
                raise OSError("the network is gone")
            return await super().resolve_host(name, fresh)

    mdns = FailingMdns({"gpu.local": (fake.host,)})
    async with WatchedFleet() as w, run_search(w, mdns, LanSearchSettings(mdns=True), hostnames=("gpu.local",)):
        mdns.publish(OLLAMA_SERVICE, service(fake))
        await w.wait_until(state_is("GPU-box", State.UP))
    assert sum("The search for servers on the network failed" in r.getMessage() for r in caplog.records) == 1


async def test_no_task_runs_when_the_search_is_disabled():
    before = asyncio.all_tasks()
    async with WatchedFleet() as w, run_search(w, FakeMdns(), LanSearchSettings()):
        assert not {task.get_name() for task in asyncio.all_tasks() - before} & {"watch the network"}
