"""Discovery of model servers over real sockets that refuse, hang, or send garbage."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from penstock.domain.fleet import Inventory, Server, ServerStatus, State
from penstock.engines.base import FetchRequest
from penstock.engines.openai_compatible.engine import OpenAIServer
from tests.support.fake_servers import FakeServer, ListingEngine, WatchedFleet, listing_server, state_is
from tests.support.raw_engine import RawEngine, response, send_pieces


@pytest.fixture
async def good() -> AsyncIterator[FakeServer]:
    async with FakeServer("m1", "m2:latest") as tiny:
        yield tiny


@pytest.fixture
async def away() -> AsyncIterator[FakeServer]:
    tiny = FakeServer()
    await tiny.start()
    await tiny.stop()
    yield tiny
    await tiny.stop()


async def test_the_first_probes_publish_the_models_and_log_a_summary(good, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with (
        FakeServer("m1", "m3") as other,
        WatchedFleet(listing_server("primary", good), listing_server("localhost", other)) as w,
    ):
        assert [m.name for m in w.status("primary").models] == ["m1", "m2:latest"]
        assert w.status("primary").version == "1.2.3"
        assert w.status("primary").slots == 3
        assert w.status("primary").url == good.url
        assert 0 < w.status("primary").response_time < 0.3
        assert {d.server.name for d in w.catalog.fleet.deployments["m1"]} == {"primary", "localhost"}
    lines = [r.getMessage() for r in caplog.records]
    ms = [f"{s.response_time * 1000:.0f}ms" for s in w.catalog.fleet.statuses]
    assert lines == [
        "Discovering Ollama servers and models...",
        f"Server primary ({good.url}): 2 models, {ms[0]}",
        f"Server localhost ({other.url}): 2 models, {ms[1]}",
        "Discovery complete: 2/2 servers available, 3 unique models",
    ]


@pytest.mark.parametrize("fault", ["hang", "garbage", "huge", "cut", "nonsense"])
async def test_a_faulty_server_affects_only_its_own_state(good, fault, caplog):
    async with (
        FakeServer(fault=fault) as bad,
        WatchedFleet(listing_server("bad", bad), listing_server("good", good)) as w,
    ):
        assert w.status("bad").state is State.DOWN
        assert w.status("bad").error
        assert w.status("good").is_up
    about = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(about) == 1
    assert "bad" in about[0]


async def test_a_hanging_server_delays_the_first_probes_by_the_timeout_only(good):
    async with FakeServer(fault="hang") as bad:
        began = time.monotonic()
        async with WatchedFleet(
            listing_server("bad", bad), listing_server("bad2", bad), listing_server("good", good)
        ) as w:
            assert time.monotonic() - began < 2.0
            assert "did not answer" in w.status("bad").error


async def test_an_unreachable_configured_server_is_logged_once_with_its_setting(away, caplog):
    async with WatchedFleet(listing_server("primary", away, setting="llm.providers.ollama.base_url")) as w:
        await w.wait_for_probes(4)
        assert w.status("primary").state is State.DOWN
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert all(part in warnings[0] for part in (away.url, "connection refused", "llm.providers.ollama.base_url"))


async def test_an_unreachable_default_address_is_neither_logged_nor_published(away, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with WatchedFleet(listing_server("localhost", away, is_configured=False)) as w:
        assert w.catalog.fleet.statuses == ()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert "Discovery complete: 0/0 servers available, 0 unique models" in caplog.text


async def test_a_default_address_joins_when_it_answers_and_stays(away, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with WatchedFleet(listing_server("localhost", away, is_configured=False)) as w:
        away.models = ["m"]
        await away.start()
        await w.wait_until(state_is("localhost", State.UP))
        await away.stop()
        await w.wait_until(state_is("localhost", State.DOWN))
    assert f"Server localhost ({away.url}): 1 model" in caplog.text


async def test_each_change_of_a_servers_state_is_logged_once(good, caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with WatchedFleet(listing_server("a", good)) as w:
        await good.stop()
        await w.wait_until(state_is("a", State.DOWN))
        assert [m.name for m in w.status("a").models] == ["m1", "m2:latest"]
        await w.wait_for_probes(3)
        await good.start()
        await w.wait_until(state_is("a", State.UP))
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Server a is")]
    assert len(lines) == 2
    assert lines[0].startswith("Server a is down: connection refused")
    assert lines[1].startswith("Server a is up again: 2 models, ")


async def test_a_loading_server_gets_no_calls_until_it_is_ready(caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with FakeServer("m", fault="loading") as tiny, WatchedFleet(listing_server("a", tiny)) as w:
        assert w.status("a").state is State.LOADING
        tiny.fault = ""
        await w.wait_until(state_is("a", State.UP))
    assert "Server a is ready: 1 model" in caplog.text


async def test_a_failed_call_causes_a_probe_at_once(good):
    async with WatchedFleet(listing_server("a", good), interval=600) as w:
        await good.stop()
        began = time.monotonic()
        w.watcher.request_probe("a")
        w.watcher.request_probe("nobody")
        await w.wait_until(state_is("a", State.DOWN))
        assert time.monotonic() - began < 5


async def test_a_server_never_has_more_than_one_probe_in_flight():
    async with FakeServer(fault="hang") as tiny, WatchedFleet(listing_server("a", tiny), timeout=0.1) as w:
        for _ in range(5):
            tiny.requested.clear()
            w.watcher.request_probe("a")
            async with asyncio.timeout(5):
                await tiny.requested.wait()
        assert tiny.max_open == 1


async def test_the_first_address_that_answers_is_used(good, away):
    async with FakeServer("m1") as second, WatchedFleet(listing_server("a", away, good, second)) as w:
        assert w.status("a").url == good.url
        await good.stop()
        await w.wait_until(lambda fleet: fleet.statuses[0].url == second.url)
        await away.start()
        await w.wait_until(lambda fleet: fleet.statuses[0].url == away.url)
        assert w.catalog.fleet.statuses[0].is_up


async def test_the_error_of_an_unreachable_server_contains_all_its_addresses(away):
    other = FakeServer()
    await other.start()
    await other.stop()
    async with WatchedFleet(listing_server("a", away, other)) as w:
        assert "connection refused" in w.status("a").error


async def test_an_unexpected_engine_error_is_logged_once_with_its_type(good, caplog):
    class Broken(ListingEngine):
        def inspect_server(self, known):
            yield FetchRequest("/list")
            raise ZeroDivisionError("boom")

    async with WatchedFleet(listing_server("a", good), engine=Broken()) as w:
        await w.wait_for_probes(5)
        assert w.status("a").state is State.DOWN
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert errors == ["The probe of server a failed: ZeroDivisionError: boom."]
    assert "in inspect_server" in caplog.text  # where in the program


async def test_an_engine_that_never_stops_fetching_is_stopped(good):
    class Endless(ListingEngine):
        def inspect_server(self, known):
            while True:
                yield FetchRequest("/list", optional=True)

    async with WatchedFleet(listing_server("a", good), engine=Endless(), timeout=0.05) as w:
        assert w.status("a").state is State.DOWN


async def test_a_failed_optional_fetch_does_not_fail_the_probe(good):
    class Curious(ListingEngine):
        def inspect_server(self, known):
            found = yield from super().inspect_server(known)
            missing = yield FetchRequest("/never", optional=True)
            return Inventory(found.models, detail=str(missing.status))

    async with WatchedFleet(listing_server("a", good), engine=Curious()) as w:
        assert w.status("a").is_up
        assert w.status("a").detail == "0"


async def test_a_server_of_an_unknown_kind_is_down(good):
    async with WatchedFleet(Server("a", "strange", (good.url,))) as w:
        assert "strange" in w.status("a").error


async def test_the_first_real_server_with_a_model_replaces_simulated_ones(away, good):
    found: list[ServerStatus] = []
    default = listing_server("localhost", away, is_configured=False)
    simulated = listing_server("remote", good, is_simulated=True)
    async with WatchedFleet(default, simulated, on_real_server=found.append) as w:
        assert w.catalog.fleet.is_simulated
        await away.start()
        await w.wait_until(lambda fleet: away.requests >= 2)
        assert w.names == ["remote"]
        away.models = ["m"]
        await w.wait_until(state_is("localhost", State.UP))
        assert w.names == ["localhost"]
        assert [status.server.name for status in found] == ["localhost"]
        await away.stop()
        await w.wait_until(state_is("localhost", State.DOWN))
        w.watcher.set_servers([default, simulated])
        assert w.names == ["localhost"]


async def test_a_reload_changes_servers_without_disturbing_the_others(good):
    async with (
        FakeServer("x") as one,
        FakeServer("y") as two,
        FakeServer("z") as three,
        WatchedFleet(
            listing_server("stay", good), listing_server("go", one), listing_server("change", two), interval=600
        ) as w,
    ):
        w.catalog.loads["stay"].running = 4
        looks = good.requests
        changed = listing_server("change", three)
        w.watcher.set_servers([listing_server("new", one), changed, listing_server("stay", good)])
        assert w.status("change").state is State.UNKNOWN
        await w.watcher.wait_for_first_probes()
        assert w.names == ["new", "change", "stay"]
        assert [m.name for m in w.status("change").models] == ["z"]
        assert w.catalog.loads["stay"].running == 4
        assert good.requests == looks
        assert "go" not in w.catalog.loads


async def test_a_changed_priority_or_model_list_keeps_the_status(good):
    async with WatchedFleet(listing_server("a", good), interval=600) as w:
        w.watcher.set_servers([listing_server("a", good, models=("m1",))])
        assert w.status("a").is_up
        await w.wait_until(lambda fleet: len(fleet.statuses[0].models) == 1)


async def test_stopping_leaves_no_task_behind_while_probes_hang(good):
    before = asyncio.all_tasks()
    async with FakeServer(fault="hang") as bad, FakeServer(fault="hang") as worse:
        w = WatchedFleet(listing_server("a", bad), listing_server("b", good, worse), timeout=60)
        w.watcher.start()
        async with asyncio.timeout(5):
            await bad.requested.wait()
        await w.watcher.stop()
        mine = [t for t in asyncio.all_tasks() - before if (t.get_name() or "").startswith("watch")]
        assert mine == []


async def test_a_watcher_may_have_no_servers(caplog):
    caplog.set_level(logging.INFO, "penstock")
    async with WatchedFleet() as w:
        assert w.watcher.has_probed_all
    assert "Discovery complete: 0/0" in caplog.text


@pytest.mark.parametrize(
    "answer", [response(b'{"detail":"Not Found"}', status="404 Not Found"), response(b'{"object":"list","data":null}')]
)
async def test_a_server_without_a_model_list_keeps_the_models_of_its_settings(answer: bytes):
    async with RawEngine(send_pieces(answer)) as engine:
        server = Server("a", "lister", (engine.url,), models=("m1",))
        async with WatchedFleet(server, engine=OpenAIServer()) as w:
            assert w.status("a").is_up
            assert [model.name for model in w.status("a").models] == ["m1"]
