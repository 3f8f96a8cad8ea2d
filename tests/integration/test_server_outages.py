"""Servers are killed, hung and resumed: a dead server gets no calls, and a recovered one soon gets some.

Times are a twentieth of real life's.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest

from penstock.domain.errors import ConnectFailed
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS, BreakerPolicy
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.sim import Faults, SimOptions, Simulator
from tests.support.breakers import count_failure
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, post
from tests.support.raw_engine import RawEngine, completion, response, send_pieces

CHAT = post("/v1/chat/completions", chat())
SCALE = 20.0
TEN_SECONDS = 10.0 / SCALE
POLICY = BreakerPolicy(
    first_open_time=1 / SCALE, max_open_time=30 / SCALE, max_unreachable_time=8 / SCALE, max_retry_after=60 / SCALE,
    window=30 / SCALE, slow_start=10 / SCALE,
)  # fmt: skip


@contextlib.asynccontextmanager
async def run_fleet(*sims: Simulator) -> AsyncIterator[RunningGateway]:
    """Run a gateway in front of simulators; it prefers the first one."""
    servers = [
        server_settings(
            chr(97 + place), sim.url, priority="SECONDARY" if place else "PRIMARY", first_byte=0.2, idle=0.2
        )
        for place, sim in enumerate(sims)
    ]
    async with run_gateway(*servers, probe=True) as gateway:
        gateway.gateway.failover.targets.breakers = BreakerRegistry(random.Random(1).random, POLICY)
        gateway.gateway.failover.forget()
        for watched in gateway.gateway.watcher._watched.values():
            watched.schedule.interval, watched.schedule.first_retry = 8 / SCALE, 1 / SCALE
        gateway.gateway.watcher._prober._timeout = 0.1
        yield gateway


def is_up(gateway: RunningGateway, name: str) -> bool:
    return any(status.is_up for status in gateway.gateway.catalog.fleet.statuses if status.server.name == name)


def count_calls(sim: Simulator) -> int:
    return sim.counters.requests.get("/v1/chat/completions", 0)


async def ask(gateway: RunningGateway) -> str:
    answer = await gateway.send_request(CHAT)
    assert answer.status == 200, answer
    return str(answer.headers["x-penstock-server"])


def vllm() -> Simulator:
    return Simulator(SimOptions.instant("vllm", "m", text="good", slots=64))


@pytest.mark.parametrize("way", ["refuse", "hang_before"])
async def test_a_dead_server_gets_no_calls_and_a_recovered_one_gets_them_in_ten_seconds(way: str):
    async with vllm() as first, vllm() as second, run_fleet(first, second) as gateway:
        assert await ask(gateway) == "a"
        first.faults = Faults(**{way: 1.0})
        while is_up(gateway, "a"):
            assert await ask(gateway) == "b"  # no caller notices
        seen = count_calls(first)
        for _ in range(50):
            assert await ask(gateway) == "b"
        assert count_calls(first) == seen
        first.faults = Faults()
        gateway.gateway.catalog.loads["a"].last_failed_at = 0.0  # it has been dead for long
        loop = asyncio.get_running_loop()
        back_at = loop.time()
        while await ask(gateway) != "a":
            pass
        # looks come every eight seconds at most; what they take on this machine is not the gateway's
        assert loop.time() - back_at < 4 * TEN_SECONDS


async def test_a_server_that_dies_under_load_gets_few_more_calls():
    async with vllm() as first, vllm() as second, run_fleet(first, second) as gateway:
        first.faults = Faults(status_500=1.0, scope="generation")
        for _ in range(100):
            assert await ask(gateway) == "b"
        assert count_calls(first) < 20
        assert gateway.gateway.failover.breakers.list_states()["a", ""] == "closed"


async def test_a_lone_failing_server_is_asked_all_the_same_once_a_call():
    broken = send_pieces(response(b"{}", status="500 Internal Server Error"))
    async with RawEngine(broken) as bad, run_gateway(server_settings("a", bad.url)) as gateway:
        for number in range(10):
            assert (await gateway.send_request(post("/v1/chat/completions", chat(seed=number)))).status == 500
        assert len(bad.requests) == 10
        assert gateway.gateway.failover.breakers.list_states()["a", "m"] == "open"
        bad.script = send_pieces(response(completion("good")))
        assert await ask(gateway) == "a"
        assert gateway.gateway.failover.breakers.list_states()["a", "m"] == "closed"


async def test_a_lone_server_that_asks_for_a_pause_gets_it_and_clients_get_a_retry_after():
    slow_down = response(b"{}", status="429 Too Many Requests", headers=("Retry-After: 30",))
    async with RawEngine(send_pieces(slow_down)) as busy, run_gateway(server_settings("a", busy.url)) as gateway:
        assert (await gateway.send_request(CHAT)).status == 429
        answer = await gateway.send_request(CHAT)
        assert answer.status == 503
        assert answer.json["error"]["code"] == "no_server"
        assert "a has just failed and gets no requests" in answer.json["error"]["message"]
        assert answer.headers["retry-after"]
        assert len(busy.requests) == 1


async def test_a_retry_after_of_an_engine_is_honoured():
    slow_down = response(b"{}", status="429 Too Many Requests", headers=("Retry-After: 30",))
    async with (
        RawEngine(send_pieces(slow_down)) as busy,
        vllm() as good,
        run_gateway(server_settings("a", busy.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        for _ in range(20):
            assert await ask(gateway) == "b"
            gateway.gateway.catalog.loads["a"].last_failed_at = 0.0
        assert len(busy.requests) == 1


async def test_a_breaker_probe_that_its_client_abandons_returns_its_permit():
    async with vllm() as first, run_gateway(server_settings("a", first.url)) as gateway:
        pair = gateway.gateway.failover.breakers.get("a", "m")
        first.faults = Faults(hang_before=1.0)
        count_failure(pair, NO_PERMITS, ConnectFailed("refused"), 0.0, answered=False)  # long ago
        client = await gateway.connect_client()
        await client.send(CHAT)
        await wait_until(lambda: pair.is_blocked_by_probe(time.monotonic()))
        client.close()
        await wait_until(lambda: not pair.is_blocked_by_probe(time.monotonic()))
        first.faults = Faults()
        assert await ask(gateway) == "a"
        assert pair.is_healthy
