"""A complete gateway on a network whose servers get new addresses, are drained and are removed: streams continue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.app.gateway import Gateway
from penstock.config.settings import ListenSettings, Settings, StorageSettings
from penstock.control.discovery.mdns import Mdns
from penstock.domain.fleet import State
from penstock.sim import SimOptions, Simulator
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.lan import LOOPBACK, CallbackWaiter, LanHost, skip_without_network
from tests.support.raw_client import chat, post

TEXT = "one two three four five six seven eight nine ten"
STREAM = post("/v1/chat/completions", chat(stream=True))
ASK = post("/v1/chat/completions", chat())


@contextlib.asynccontextmanager
async def run_simulator(host: str, port: int = 0, text: str = TEXT) -> AsyncIterator[Simulator]:
    options = replace(SimOptions.instant("ollama", "m", text=text), host=host, port=port, tokens_per_second=15.0)
    async with Simulator(options) as simulator:
        yield simulator


@pytest.fixture
async def lan_host() -> AsyncIterator[LanHost]:
    lan_host = LanHost()
    yield lan_host
    await lan_host.close()


def port_of(simulator: Simulator) -> int:
    return int(simulator.url.rpartition(":")[2])


async def start_stream(here: RunningGateway) -> "asyncio.Task[str]":
    """Start a stream and wait for its first text."""
    client = await here.connect_client()
    await client.send(STREAM)
    await wait_until(lambda: here.gateway.pools.busy_count == 1)

    async def read() -> str:
        answer = await client.read_answer(20)
        assert answer.data[-1] == b"[DONE]"
        return answer.text

    return asyncio.create_task(read())


def state(here: RunningGateway, name: str) -> State:
    return next(s.state for s in here.gateway.catalog.fleet.statuses if s.server.name == name)


def url(here: RunningGateway) -> str:
    return here.gateway.catalog.fleet.statuses[0].url


async def test_running_streams_continue_when_a_server_gets_a_new_address(lan_host):
    async with run_simulator("127.0.0.2") as old, run_simulator("127.0.0.3", port_of(old), "moved") as new:
        await lan_host.announce("127.0.0.2")
        one = server_settings("gpu", f"http://{lan_host.host}:{port_of(old)}", "ollama")
        async with run_gateway(one, probe=True) as here:
            assert url(here) == old.url
            stream = await start_stream(here)

            await lan_host.move("127.0.0.3")

            await wait_until(lambda: url(here) == new.url)
            assert "moved" in (await here.send_request(ASK, 20)).text
            assert await stream == TEXT


async def test_streams_of_a_drained_server_complete_and_new_calls_use_another_server():
    async with run_simulator("127.0.0.1") as first, run_simulator("127.0.0.1", text="second") as second:
        servers = (
            server_settings("a", first.url, "ollama"),
            server_settings("b", second.url, "ollama", priority="SECONDARY"),
        )
        async with run_gateway(*servers, probe=True) as here:
            stream = await start_stream(here)
            assert (first.speed_model.counters.started, second.speed_model.counters.started) == (1, 0)

            here.gateway.watcher.drain_server("a")

            assert state(here, "a") is State.DRAINING
            for _ in range(3):
                assert "second" in (await here.send_request(ASK, 20)).text
            assert await stream == TEXT
            here.gateway.watcher.enable_server("a")
            assert state(here, "a") is State.UP


async def test_streams_of_a_removed_server_complete():
    async with run_simulator("127.0.0.1") as first, run_simulator("127.0.0.1", text="second") as second:
        servers = (
            server_settings("a", first.url, "ollama"),
            server_settings("b", second.url, "ollama", priority="SECONDARY"),
        )
        async with run_gateway(*servers, probe=True) as here:
            stream = await start_stream(here)

            here.gateway.apply(replace(here.gateway.settings, servers=servers[1:]))

            assert [s.server.name for s in here.gateway.catalog.fleet.statuses] == ["b"]
            assert "second" in (await here.send_request(ASK, 20)).text
            assert await stream == TEXT


async def test_a_reachable_gateway_is_announced_while_it_runs():
    skip_without_network()
    other = Mdns([LOOPBACK])
    news = CallbackWaiter()
    other.on_services_changed = news
    other.start_browsing("_penstock._tcp")
    settings = Settings(
        StorageSettings(Path()), server=ListenSettings("0.0.0.0", announce=True), anything_configured=True
    )
    gateway = Gateway(settings, port=48005)

    def ports() -> set[int]:
        return {service.port for service in other.list_services("_penstock._tcp")}

    try:
        await gateway.start()
        await news.wait_until(lambda: 48005 in ports())
        await gateway.stop()
        await news.wait_until(lambda: 48005 not in ports())
    finally:
        await gateway.stop()
        await other.stop()
