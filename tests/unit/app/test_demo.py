"""The pair of simulated servers."""

import asyncio
from urllib.parse import urlsplit

import pytest

from penstock.app.demo import DEMO_SERVER_NAMES, DemoServers
from penstock.domain.fleet import Priority, Server
from penstock.sim import Simulator


async def is_listening(server: Server) -> bool:
    parts = urlsplit(server.url)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_the_pair_is_a_primary_and_a_secondary_server_marked_as_simulated() -> None:
    demo = DemoServers()
    servers = await demo.start()
    assert [server.name for server in servers] == list(DEMO_SERVER_NAMES)
    assert [server.priority for server in servers] == [Priority.PRIMARY, Priority.SECONDARY]
    assert all([server.is_simulated and await is_listening(server) for server in servers])
    await demo.retire()
    assert not any([await is_listening(server) for server in servers])


async def test_a_gateway_that_stops_while_the_pair_retires_stops_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulator, "running", property(lambda _: 1))
    demo = DemoServers()
    servers = await demo.start()
    retirement = asyncio.create_task(demo.retire())
    await asyncio.sleep(0)
    retirement.cancel()
    await asyncio.gather(retirement, return_exceptions=True)
    await demo.stop()
    assert not any([await is_listening(server) for server in servers])
