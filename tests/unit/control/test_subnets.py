"""Which addresses are scanned, and how many at a time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery import port_scan


def test_only_private_ranges_of_a_moderate_size_are_scanned():
    assert port_scan.addresses(["192.168.178.0/30", "192.168.178.1/30"]) == ("192.168.178.1", "192.168.178.2")
    assert len(port_scan.addresses(["10.1.0.0/22"])) == 1022
    assert port_scan.addresses(["10.0.0.0/21", "8.8.8.0/24", "fd00::/120", "nonsense"]) == ()
    assert port_scan.addresses(["10.0.0.9/32"]) == ("10.0.0.9",)


@given(st.lists(st.integers(0, 255), unique=True, max_size=60), st.sets(st.integers(0, 255)), st.integers(1, 8))
async def test_a_scan_finds_what_listens_in_order_and_never_knocks_at_more_than_so_many(hosts, listening, parallel):
    now = most = 0

    async def knock(host: str, port: int) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return int(host.rpartition(".")[2]) in listening and port == 11434

    wanted = [f"10.0.0.{host}" for host in hosts]

    found = await port_scan.scan(wanted, 11434, knock, parallel)

    assert list(found) == [host for host in wanted if int(host.rpartition(".")[2]) in listening]
    assert most <= parallel


async def test_knocking_tells_whether_something_listens():
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    assert await port_scan.knock("127.0.0.1", port)
    listening.close()
    await listening.wait_closed()
    assert not await port_scan.knock("127.0.0.1", port)


@pytest.mark.parametrize("host", ["nobody.invalid", "256.1.1.1"])
async def test_knocking_never_raises(host):
    assert not await port_scan.knock(host, 1)
