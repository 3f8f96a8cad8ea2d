"""Servers that are drained, enabled, added and removed while they run."""

import logging

from penstock.domain.fleet import State
from tests.support.fake_servers import FakeServer, WatchedFleet, listing_server, state_is


async def test_a_drained_server_is_listed_as_draining_and_gets_no_calls(caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with FakeServer("m") as tiny, WatchedFleet(listing_server("a", tiny), interval=600) as w:
        w.catalog.loads["a"].running = 3

        assert w.watcher.drain_server("a")
        assert w.status("a").state is State.DRAINING
        assert [model.name for model in w.status("a").models] == ["m"]
        assert "m" not in w.catalog.fleet.deployments
        assert w.catalog.loads["a"].running == 3
        assert w.watcher.drain_server("a")

        assert w.watcher.enable_server("a")
        assert w.status("a").is_up
        assert w.catalog.fleet.deployments["m"][0].is_up
    lines = [
        r.getMessage() for r in caplog.records if r.getMessage().startswith(("Server a is drained", "Server a gets"))
    ]
    assert lines == [
        "Server a is drained: it gets no new calls, and running calls complete.",
        "Server a gets new calls again.",
    ]


async def test_a_server_stays_drained_through_probes_reloads_and_downtime():
    async with FakeServer("m") as tiny, WatchedFleet(listing_server("a", tiny)) as w:
        w.watcher.drain_server("a")
        await w.wait_for_probes(3)
        assert w.status("a").state is State.DRAINING

        w.watcher.set_servers([listing_server("a", tiny, max_concurrent=5)])
        assert w.status("a").state is State.DRAINING

        await tiny.stop()
        await w.wait_until(state_is("a", State.DOWN))
        await tiny.start()
        await w.wait_until(state_is("a", State.DRAINING))


async def test_a_server_that_was_removed_and_added_is_no_longer_drained():
    async with FakeServer("m") as tiny, WatchedFleet(listing_server("a", tiny)) as w:
        w.watcher.drain_server("a")
        w.watcher.set_servers([])
        w.watcher.set_servers([listing_server("a", tiny)])
        await w.wait_until(state_is("a", State.UP))


async def test_only_existing_servers_can_be_drained():
    async with WatchedFleet() as w:
        assert not w.watcher.drain_server("nobody")
        assert not w.watcher.enable_server("nobody")


async def test_a_configured_server_replaces_a_found_one_of_the_same_name():
    async with FakeServer("x") as found, FakeServer("y") as configured, WatchedFleet() as w:
        w.watcher.set_found_servers([listing_server("a", found, is_configured=False)])
        await w.wait_until(state_is("a", State.UP))

        w.watcher.set_servers([listing_server("a", configured)])

        await w.wait_until(lambda fleet: fleet.statuses[0].is_up and fleet.statuses[0].url == configured.url)
        assert w.names == ["a"]
