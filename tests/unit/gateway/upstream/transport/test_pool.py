"""The pool: which kept connection is used, which is closed, and when no more are opened."""

import asyncio
import re
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import ConnectFailed, NoServer, UpstreamTimeout
from penstock.gateway.upstream.transport.connection import Connection
from penstock.gateway.upstream.transport.pool import Address, Pool, PoolLimits, Pools, create_tls_context
from tests.support.raw_engine import RawEngine, send_pieces
from tests.unit.gateway.upstream.connection_bench import FakeTransport, RecordingSink


class Clock:
    """The clock of an event loop, as far as a pool uses it."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


def pool(**limits: float) -> Pool:
    return Pool(Address.parse("http://engine:1"), PoolLimits(**limits), True, Clock())  # type: ignore[arg-type]


def open_connection(in_pool: Pool) -> Connection:
    """A connection that is busy in this pool."""
    connection = Connection("http://engine:1", in_pool._on_released)
    connection.connection_made(FakeTransport())  # type: ignore[arg-type]
    in_pool.busy.add(connection)
    return connection


def answer_request(connection: Connection, extra: bytes = b"") -> None:
    connection.send_request(b"", RecordingSink(), 10.0, 10.0)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + extra)


def state(connection: Connection) -> str:
    return connection.transport.state if connection.transport else "lost"  # type: ignore[attr-defined]


def test_the_youngest_free_connection_is_used_first():
    kept = pool()
    first, second = open_connection(kept), open_connection(kept)
    answer_request(first)
    answer_request(second)
    assert kept.take() is second
    assert kept.take() is first
    assert kept.take() is None


def test_a_free_connection_that_was_lost_is_skipped():
    kept = pool()
    first, second = open_connection(kept), open_connection(kept)
    answer_request(first)
    answer_request(second)
    second.connection_lost(None)
    assert kept.take() is first
    assert kept.size == 1


def test_a_connection_with_extra_bytes_is_not_kept():
    kept = pool()
    connection = open_connection(kept)
    answer_request(connection, b"HTTP/1.1 200 OK\r\n")
    assert (kept.take(), kept.size, state(connection)) == (None, 0, "closed")


def test_free_connections_age_and_busy_ones_do_not():
    kept = pool(idle_expiry=60)
    busy, old, young = open_connection(kept), open_connection(kept), open_connection(kept)
    kept.sweep(100.0)
    answer_request(old)
    kept.sweep(130.0)
    answer_request(young)
    kept.sweep(161.0)
    assert (state(busy), state(old), state(young)) == ("open", "closed", "open")
    assert kept.size == 2


def test_more_free_connections_than_the_limit_are_closed():
    kept = pool(max_idle=3)
    connections = [open_connection(kept) for _ in range(5)]
    for connection in connections:
        answer_request(connection)
    assert [state(connection) for connection in connections] == ["open"] * 3 + ["closed"] * 2
    assert kept.size == 3


def test_a_closed_pool_lets_running_requests_complete():
    kept = pool()
    free, busy = open_connection(kept), open_connection(kept)
    answer_request(free)
    kept.close()
    assert (state(free), state(busy)) == ("closed", "open")
    answer_request(busy)
    assert (state(busy), kept.size) == ("closed", 0)


def test_a_terminated_pool_stops_running_requests():
    kept = pool()
    sink = RecordingSink()
    connection = open_connection(kept)
    connection.send_request(b"", sink, 10.0, 10.0)
    kept.abort()
    assert state(connection) == "aborted"
    assert isinstance(sink.ended, ConnectFailed)
    assert kept.size == 0


steps = st.lists(st.sampled_from(["take", "answer", "lose", "lose free", "sweep", "abort", "later"]), max_size=60)


@given(steps, st.randoms(use_true_random=False))
def test_every_connection_is_always_free_busy_or_closed(steps, dice):
    kept = pool(max_idle=3, idle_expiry=60)
    everything: list[Connection] = []
    for step in steps:
        busy = sorted(kept.busy, key=everything.index)
        if step == "take":
            taken = kept.take()
            if taken is None:
                taken = open_connection(kept)
                everything.append(taken)
            assert taken.is_open
            taken.send_request(b"", RecordingSink(), kept.loop.time() + 1e9, 1e9)
        elif step == "answer" and busy:
            dice.choice(busy).data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif step == "lose" and busy:
            dice.choice(busy).connection_lost(None)
        elif step == "lose free" and kept._idle:
            dice.choice(kept._idle).connection_lost(None)
        elif step == "abort" and busy:
            dice.choice(busy).abort()
        elif step == "later":
            kept.loop.now += 40  # type: ignore[attr-defined]
        elif step == "sweep":
            kept.sweep(kept.loop.time())
        free = [connection for connection in kept._idle if connection.is_open]
        assert len(kept._idle) <= 3
        assert not kept.busy & set(free)
        assert all(connection.sink is not None for connection in kept.busy)
        assert {c for c in everything if c.is_open} == kept.busy | set(free)


# Opening


async def test_a_failed_connect_reports_its_cause():
    with socket.socket() as closed_socket:
        closed_socket.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed_socket.getsockname()[1]}"
        refusing = Pool(Address.parse(url), PoolLimits(), True, asyncio.get_running_loop())
        with pytest.raises(ConnectFailed, match=re.escape(f"Cannot connect to {url}: connection refused")):
            await refusing.connect()
        assert refusing.size == 0


async def test_connecting_has_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address.parse(f"https://127.0.0.1:{listener.getsockname()[1]}")
        slow = Pool(address, PoolLimits(connect_timeout=0.05), True, asyncio.get_running_loop())
        with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
            await slow.connect()
        assert slow.size == 0


async def test_an_unknown_host_name_is_reported():
    address = Address.parse("http://nobody.invalid:1")
    with pytest.raises(ConnectFailed, match=r"Cannot connect to http://nobody\.invalid:1"):
        await Pool(address, PoolLimits(), True, asyncio.get_running_loop()).connect()


async def test_no_more_than_the_limit_are_opened():
    async with RawEngine(send_pieces()) as engine:
        small = Pool(Address.parse(engine.url), PoolLimits(max_connections=2), True, asyncio.get_running_loop())
        held = [await small.connect(), await small.connect()]
        with pytest.raises(NoServer, match="max_connections"):
            await small.connect()
        small.give_back(held[0])
        assert small.take() is held[0]
        small.abort()


async def test_nothing_is_opened_after_the_end():
    async with RawEngine(send_pieces()) as engine:
        pools = Pools(PoolLimits())
        first = pools.get(engine.url)
        connecting = asyncio.create_task(first.connect())
        await asyncio.sleep(0)
        pools.close()
        for ended in (connecting, first.connect(), pools.get("http://127.0.0.1:1").connect()):
            with pytest.raises(ConnectFailed, match="stopping"):
                await ended
        assert (pools.size, pools.busy_count) == (0, 0)


async def test_a_pool_serves_one_address_with_one_way_of_verifying():
    pools = Pools(PoolLimits())
    assert pools.get("http://a:1") is pools.get("http://a:1")
    assert pools.get("http://a:1") is not pools.get("http://a:2")
    assert pools.get("https://a:1", True) is not pools.get("https://a:1", False)
    pools.close()


async def test_pools_that_are_no_longer_needed_are_closed():
    pools = Pools(PoolLimits())
    kept, gone = pools.get("http://kept:1"), pools.get("http://gone:1")
    pools.retain(lambda url: "kept" in url)
    assert pools.get("http://kept:1") is kept
    assert pools.get("http://gone:1") is not gone
    pools.close()


# Addresses


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix", "authority"),
    [
        ("http://localhost:8000", "localhost", 8000, False, "", "localhost:8000"),
        ("http://box.local", "box.local", 80, False, "", "box.local"),
        ("https://api.example", "api.example", 443, True, "", "api.example"),
        ("https://api.example:8443/v2/", "api.example", 8443, True, "/v2", "api.example:8443"),
        ("http://[::1]:11434", "::1", 11434, False, "", "[::1]:11434"),
        ("https://[fe80::1]/x/y", "fe80::1", 443, True, "/x/y", "[fe80::1]"),
        ("http://me:secret@box:1", "box", 1, False, "", "box:1"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, host: str, port: int, tls: bool, prefix: str, authority: str):
    address = Address.parse(url)
    assert address == Address(host, port, tls, prefix, authority)
    assert "secret" not in str(address)


def test_verification_is_on_unless_it_is_turned_off():
    assert create_tls_context(True).verify_mode is ssl.CERT_REQUIRED
    assert create_tls_context(True).check_hostname
    assert create_tls_context(False).verify_mode is ssl.CERT_NONE
    assert not create_tls_context(False).check_hostname
