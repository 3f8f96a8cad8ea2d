"""Multicast DNS with the real library, between hosts of a network that is the loopback interface."""

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from penstock.control import discovery
from penstock.control.discovery import zeroconf_adapter
from penstock.control.discovery.dns_sd import Announcement
from penstock.control.discovery.mdns import Mdns
from penstock.control.discovery.name_resolution import MdnsResolver
from tests.support.lan import LOOPBACK, CallbackWaiter, LanHost


def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unload the mDNS library, as before the first use of the network."""
    monkeypatch.delitem(sys.modules, zeroconf_adapter.__name__)
    monkeypatch.delattr(discovery, "zeroconf_adapter")


@pytest.fixture
async def lan_host() -> AsyncIterator[LanHost]:
    lan_host = LanHost()
    yield lan_host
    await lan_host.close()


@pytest.fixture
async def mdns() -> AsyncIterator[Mdns]:
    mdns = Mdns([LOOPBACK], timeout=1.0)
    yield mdns
    await mdns.stop()


async def test_a_name_is_resolved_without_the_operating_system(lan_host, mdns):
    await lan_host.announce(LOOPBACK)
    with contextlib.suppress(socket.gaierror):
        assert socket.getaddrinfo(lan_host.host, 1) == []

    assert await mdns.resolve_host(lan_host.host) == (LOOPBACK,)
    assert await MdnsResolver(mdns).resolve_url(f"http://{lan_host.host}:11434/x", False) == (
        f"http://{LOOPBACK}:11434/x",
    )


async def test_the_lookup_of_an_unknown_name_ends_after_the_timeout():
    mdns = Mdns([LOOPBACK], timeout=0.05)
    try:
        assert await mdns.resolve_host(f"nobody-{uuid4().hex[:8]}.local") == ()
    finally:
        await mdns.stop()


async def test_a_changed_address_is_reported_and_used(lan_host, mdns):
    moved = []
    news = CallbackWaiter()
    mdns.on_address_changed = lambda name: (moved.append(name), news())
    await lan_host.announce("127.0.0.2")
    assert await mdns.resolve_host(lan_host.host.upper()) == ("127.0.0.2",)
    moved.clear()

    await lan_host.move("127.0.0.3")

    await news.wait_until(lambda: moved)
    assert set(moved) == {lan_host.host}
    assert (await mdns.resolve_host(lan_host.host))[0] == "127.0.0.3"


async def test_a_fresh_lookup_ignores_the_cache(lan_host, mdns):
    await lan_host.announce("127.0.0.2")
    await mdns.resolve_host(lan_host.host)
    await lan_host.leave()

    assert await mdns.resolve_host(lan_host.host, fresh=True) == ()


async def test_services_appear_and_disappear(lan_host, mdns):
    news = CallbackWaiter()
    mdns.on_services_changed = news
    mdns.start_browsing(lan_host.type)
    await lan_host.announce(LOOPBACK, port=4711)

    await news.wait_until(lambda: mdns.list_services(lan_host.type))
    (service,) = mdns.list_services(lan_host.type)
    assert (service.name, service.host, service.port) == ("GPU box", lan_host.host, 4711)
    assert service.addresses == (LOOPBACK,)
    assert service.properties == {"version": "1"}

    await lan_host.leave()
    await news.wait_until(lambda: not mdns.list_services(lan_host.type))


async def test_services_are_dropped_when_browsing_stops(lan_host, mdns):
    news = CallbackWaiter()
    mdns.on_services_changed = news
    mdns.start_browsing(lan_host.type)
    await lan_host.announce(LOOPBACK)
    await news.wait_until(lambda: mdns.list_services(lan_host.type))

    mdns.stop_browsing(lan_host.type)

    assert mdns.list_services(lan_host.type) == ()


async def test_an_announcement_is_visible_to_others_until_the_stop(mdns):
    type_ = f"_t{uuid4().hex[:8]}._tcp"
    other = Mdns([LOOPBACK])
    news = CallbackWaiter()
    other.on_services_changed = news
    other.start_browsing(type_)
    try:
        mdns.set_announcement(Announcement(type_, "Penstock on x", 8005, (LOOPBACK,), {"path": "/v1"}))
        await news.wait_until(lambda: other.list_services(type_))
        (service,) = other.list_services(type_)
        assert (service.name, service.port, service.addresses) == ("Penstock on x", 8005, (LOOPBACK,))
        assert service.properties == {"path": "/v1"}
        assert service.host.endswith("-penstock.local")

        await mdns.stop()
        await news.wait_until(lambda: not other.list_services(type_))
    finally:
        await other.stop()


async def test_an_announcement_is_replaced_by_another(mdns):
    type_ = f"_t{uuid4().hex[:8]}._tcp"
    other = Mdns([LOOPBACK])
    news = CallbackWaiter()
    other.on_services_changed = news
    other.start_browsing(type_)
    try:
        mdns.set_announcement(Announcement(type_, "one", 1, (LOOPBACK,)))
        mdns.set_announcement(Announcement(type_, "two", 2, (LOOPBACK,)))
        await news.wait_until(lambda: [service.port for service in other.list_services(type_)] == [2])
    finally:
        await other.stop()


async def test_a_missing_network_is_logged_once(caplog, monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(zeroconf_adapter, "AsyncZeroconf", refuse)
    mdns = Mdns()
    mdns.set_announcement(Announcement("_x._tcp", "x", 1))
    mdns.start_browsing("_x._tcp")
    try:
        assert await mdns.resolve_host("ollama.local") == ()
        assert await mdns.resolve_host("ollama-server.local") == ()
    finally:
        await mdns.stop()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("penstock")]
    assert len(lines) == 1
    assert lines[0].startswith("mDNS is not available")


async def test_a_missing_package_is_logged_once(caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    not_imported(monkeypatch)
    mdns = Mdns()

    assert await mdns.resolve_host("ollama.local") == ()

    await mdns.stop()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_stopping_at_any_time_leaves_no_task_behind():
    before = asyncio.all_tasks()
    mdns = Mdns([LOOPBACK])
    mdns.start_browsing("_x._tcp")
    mdns.set_announcement(Announcement("_x._tcp", "x", 1, (LOOPBACK,)))
    asking = asyncio.create_task(mdns.resolve_host("nobody.local"))
    await asyncio.sleep(0)

    await mdns.stop()

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    assert await mdns.resolve_host("nobody.local") == ()


async def test_nothing_is_opened_or_imported_before_the_first_use(monkeypatch):
    not_imported(monkeypatch)
    mdns = Mdns()
    mdns.set_announcement(None)
    mdns.stop_browsing("_ollama._tcp")

    assert await MdnsResolver(mdns).resolve_url("http://localhost:11434", False) == ()
    await mdns.stop()

    assert zeroconf_adapter.__name__ not in sys.modules
