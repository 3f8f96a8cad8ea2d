"""Selection of addresses to scan, and the limit on parallel connections."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery import port_scan


def test_only_private_ranges_of_limited_size_are_scanned():
    assert port_scan.list_hosts(["192.168.178.0/30", "192.168.178.1/30"]) == ("192.168.178.1", "192.168.178.2")
    assert len(port_scan.list_hosts(["10.1.0.0/22"])) == 1022
    assert port_scan.list_hosts(["10.0.0.0/21", "8.8.8.0/24", "fd00::/120", "nonsense"]) == ()
    assert port_scan.list_hosts(["10.0.0.9/32"]) == ("10.0.0.9",)


@given(st.lists(st.integers(0, 255), unique=True, max_size=60), st.sets(st.integers(0, 255)), st.integers(1, 8))
async def test_a_scan_keeps_the_order_and_the_limit_of_parallel_connections(hosts, listening, parallel):
    open_count = max_open = 0

    async def connect(host: str, port: int) -> bool:
        nonlocal open_count, max_open
        open_count += 1
        max_open = max(max_open, open_count)
        await asyncio.sleep(0)
        open_count -= 1
        return int(host.rpartition(".")[2]) in listening and port == 11434

    addresses = [f"10.0.0.{host}" for host in hosts]

    found = await port_scan.scan_hosts(addresses, 11434, connect, parallel)

    assert list(found) == [host for host in addresses if int(host.rpartition(".")[2]) in listening]
    assert max_open <= parallel


async def test_a_connection_attempt_shows_if_a_port_is_open():
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    assert await port_scan.try_connect("127.0.0.1", port)
    listening.close()
    await listening.wait_closed()
    assert not await port_scan.try_connect("127.0.0.1", port)


@pytest.mark.parametrize("host", ["nobody.invalid", "256.1.1.1"])
async def test_a_connection_attempt_never_raises(host):
    assert not await port_scan.try_connect(host, 1)
