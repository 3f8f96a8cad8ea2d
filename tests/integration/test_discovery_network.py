"""Servers that nobody configured, found on the network and taken back; what the network tells is a table here."""

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
class Ether:
    """A network as mDNS tells of it: names, services, and what was announced."""

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    told: dict[str, list[Service]] = field(default_factory=dict)
    browsed: set[str] = field(default_factory=set)
    announced: Announcement | None = None
    on_services_changed: object = None

    async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        return self.names.get(name, ())

    def list_services(self, type_: str) -> tuple[Service, ...]:
        return tuple(self.told.get(type_, ())) if type_ in self.browsed else ()

    def start_browsing(self, type_: str) -> None:
        self.browsed.add(type_)

    def stop_browsing(self, type_: str) -> None:
        self.browsed.discard(type_)

    def set_announcement(self, announcement: Announcement | None) -> None:
        self.announced = announcement

    def publish(self, type_: str, *services: Service) -> None:
        self.told[type_] = list(services)
        self.on_services_changed()


class Titled(ListingEngine):
    """Servers that are found are Ollama's."""

    kind = "ollama"


@contextlib.asynccontextmanager
async def looking(w: WatchedFleet, ether: Ether, search: LanSearchSettings, **more: object) -> AsyncIterator[LanSearch]:
    w.watcher._engines = {"lister": ListingEngine(), "ollama": Titled()}
    names = MdnsResolver(ether)
    w.watcher._prober._resolver = names
    here = LanSearch(w.watcher, ether, names, **{"interval": 0.05, "hostnames": ()} | more)  # type: ignore[arg-type]
    here.apply(search)
    try:
        yield here
    finally:
        await here.stop()


@pytest.fixture
async def tiny() -> AsyncIterator[FakeServer]:
    async with FakeServer("m1", host="127.0.0.3") as tiny:
        yield tiny


@pytest.fixture(autouse=True)
def every_loopback_address_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "penstock.control.discovery.name_resolution.is_own_address", lambda number: number in ("127.0.0.1", "::1")
    )


def gone(name: str):
    return lambda fleet: not any(status.server.name == name for status in fleet.statuses)


def models_at(fleet: Fleet, name: str) -> list[str]:
    return [model.name for status in fleet.statuses if status.server.name == name for model in status.models]


def service(tiny: FakeServer, name: str = "GPU box", host: str = "gpu.local") -> Service:
    return Service(name, host, tiny.port, (tiny.host,))


async def test_an_announced_server_joins_and_goes_when_it_is_neither_announced_nor_there(tiny):
    ether = Ether({"gpu.local": (tiny.host,)})
    async with WatchedFleet() as w, looking(w, ether, LanSearchSettings(mdns=True)):
        ether.publish(OLLAMA_SERVICE, service(tiny))
        await w.wait_until(state_is("GPU-box", State.UP))
        assert w.status("GPU-box").url == tiny.url
        assert w.status("GPU-box").server.urls == (f"http://gpu.local:{tiny.port}",)

        ether.publish(OLLAMA_SERVICE)
        await w.wait_for_probes(4)
        assert w.status("GPU-box").is_up  # it says nothing any more, but it answers

        await tiny.stop()
        await w.wait_until(gone("GPU-box"))


async def test_a_server_that_is_configured_is_not_found_again_under_another_name(tiny):
    ether = Ether({"gpu.local": (tiny.host,)})
    configured = listing_server("primary", tiny)
    async with WatchedFleet(configured) as w, looking(w, ether, LanSearchSettings((configured,), mdns=True)):
        async with FakeServer("m2", host="127.0.0.4") as other:
            ether.names["other.local"] = (other.host,)
            ether.publish(OLLAMA_SERVICE, service(tiny), service(other, "other", "other.local"))
            await w.wait_until(state_is("other", State.UP))
        assert w.names == ["primary", "other"]


async def test_a_server_that_moves_is_followed_under_its_name(tiny):
    ether = Ether({"gpu.local": (tiny.host,)})
    moved = FakeServer("m1", "m2", host="127.0.0.5", port=tiny.port)
    async with moved, WatchedFleet(interval=600) as w, looking(w, ether, LanSearchSettings(mdns=True)):
        ether.publish(OLLAMA_SERVICE, service(tiny))
        await w.wait_until(state_is("GPU-box", State.UP))
        w.catalog.loads["GPU-box"].running = 1

        ether.names["gpu.local"] = (moved.host,)
        w.watcher.report_moved_host("gpu.local")

        await w.wait_until(lambda fleet: models_at(fleet, "GPU-box") == ["m1", "m2"])
        assert w.status("GPU-box").url == moved.url
        assert w.catalog.loads["GPU-box"].running == 1


async def test_a_configured_name_is_followed_when_calls_fail_at_its_old_address(tiny):
    ether = Ether({"gpu.local": (tiny.host,)})
    moved = FakeServer("m1", host="127.0.0.5", port=tiny.port)
    primary = listing_server("primary", tiny)
    named = type(primary)("primary", "lister", (f"http://gpu.local:{tiny.port}",))
    async with moved, WatchedFleet(interval=600) as w, looking(w, ether, LanSearchSettings((named,))):
        w.watcher.set_servers([named])
        await w.wait_until(state_is("primary", State.UP))
        await tiny.stop()
        ether.names["gpu.local"] = (moved.host,)
        w.watcher.report_failed_call("primary")
        await w.wait_until(lambda fleet: fleet.statuses[0].url == moved.url)


async def test_hostnames_are_one_server_where_they_lead_to_one(tiny, monkeypatch):
    monkeypatch.setattr(lan_search, "OLLAMA_PORT", tiny.port)
    ether = Ether({"ollama.local": (tiny.host,), "ollama-server.local": (tiny.host,)})
    async with (
        WatchedFleet() as w,
        looking(w, ether, LanSearchSettings(mdns=True), hostnames=lan_search.COMMON_HOSTNAMES),
    ):
        await w.wait_until(state_is("ollama.local", State.UP))
        assert w.names == ["ollama.local"]


async def test_subnets_are_scanned_only_when_told(tiny, monkeypatch):
    monkeypatch.setattr(lan_search, "OLLAMA_PORT", tiny.port)
    contacted: list[str] = []

    async def connect(host: str, port: int) -> bool:
        contacted.append(host)
        return host == tiny.host

    async with WatchedFleet() as w, looking(w, Ether(), LanSearchSettings(mdns=True), connect=connect) as here:
        here.apply(LanSearchSettings(subnets=("127.0.0.0/29",)))
        await w.wait_until(state_is(tiny.host, State.UP))
        here.apply(LanSearchSettings(mdns=True))
        await w.wait_until(gone(tiny.host))
    assert contacted == [f"127.0.0.{n}" for n in range(1, 7)]


async def test_other_gateways_are_shown_and_never_used(tiny, caplog):
    caplog.set_level(logging.INFO, "penstock")
    ether = Ether({"gpu.local": (tiny.host,)})
    peer = Service("Penstock on gpu", "gpu.local", tiny.port, (tiny.host,), {"version": "9"})
    own = Service("Penstock here", "me.local", 8005, ("127.0.0.1",))
    search = LanSearchSettings(mdns=True, port=8005)
    async with (
        FakeServer("m", host="127.0.0.4") as other,
        WatchedFleet() as w,
        looking(w, ether, search) as here,
    ):
        ether.publish(PENSTOCK_SERVICE, peer, own)
        ether.publish(OLLAMA_SERVICE, service(tiny), service(other, "other", other.host))
        await w.wait_until(state_is("other", State.UP))
        assert [(one.name, one.url, one.version) for one in here.other_gateways] == [
            ("Penstock on gpu", f"http://gpu.local:{tiny.port}", "9")
        ]
        assert w.names == ["other"]
        assert tiny.requests == 0
    lines = [r.getMessage() for r in caplog.records if "Another gateway" in r.getMessage()]
    assert len(lines) == 1


async def test_a_reload_that_looks_for_nothing_takes_back_what_was_found(tiny):
    ether = Ether({"gpu.local": (tiny.host,)})
    told = Announcement("_penstock._tcp", "me", 8005)
    async with WatchedFleet() as w, looking(w, ether, LanSearchSettings(mdns=True, announcement=told)) as here:
        assert ether.announced == told
        ether.publish(OLLAMA_SERVICE, service(tiny))
        await w.wait_until(state_is("GPU-box", State.UP))

        here.apply(LanSearchSettings())

        await w.wait_until(gone("GPU-box"))
        assert ether.announced is None
        assert ether.browsed == set()


async def test_a_network_that_fails_costs_a_line_and_is_looked_at_again(tiny, caplog):
    class Shaky(Ether):
        failing = True

        async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
            if self.failing:
                self.failing = False
                raise OSError("the network is gone")
            return await super().resolve_host(name, fresh)

    ether = Shaky({"gpu.local": (tiny.host,)})
    async with WatchedFleet() as w, looking(w, ether, LanSearchSettings(mdns=True), hostnames=("gpu.local",)):
        ether.publish(OLLAMA_SERVICE, service(tiny))
        await w.wait_until(state_is("GPU-box", State.UP))
    assert sum("Looking for servers on the network failed" in r.getMessage() for r in caplog.records) == 1


async def test_nothing_runs_when_nothing_is_looked_for():
    before = asyncio.all_tasks()
    async with WatchedFleet() as w, looking(w, Ether(), LanSearchSettings()):
        assert not {task.get_name() for task in asyncio.all_tasks() - before} & {"watch the network"}
