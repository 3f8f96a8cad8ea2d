"""A hedged first byte: if a server starts slowly, a second one gets the call too, and one of them answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from penstock.sim import Faults, SimOptions, Simulator
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import RawEngine, Turn, completion, response, send_pieces, send_pieces_then, stream

CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))
GOOD = response(completion("good"))


@contextlib.asynccontextmanager
async def run_hedging_gateway(*engines: RawEngine | Simulator, after: float = 0.05) -> AsyncIterator[RunningGateway]:
    """Run a gateway that hedges, in front of engines; it prefers the first one."""
    servers = [
        server_settings(chr(97 + at), engine.url, priority="SECONDARY" if at else "PRIMARY")
        for at, engine in enumerate(engines)
    ]
    async with run_gateway(*servers) as gateway:
        failover = gateway.gateway.failover
        failover.defaults = replace(failover.defaults, hedge_after=after)
        yield gateway


@pytest.mark.parametrize(("request_", "good"), [(CHAT, GOOD), (STREAM, stream("good"))], ids=["unstreamed", "streamed"])
async def test_a_server_that_starts_late_is_overtaken_and_stopped(request_: bytes, good: bytes):
    hung = asyncio.Event()

    async def hang(turn: Turn) -> None:
        await turn.gone.wait()
        hung.set()

    async with (
        RawEngine(hang) as slow,
        RawEngine(send_pieces(good)) as quick,
        run_hedging_gateway(slow, quick) as gateway,
    ):
        answer = await gateway.send_request(request_)
        assert answer.text == "good"
        assert answer.headers["x-penstock-server"] == "b"
        await asyncio.wait_for(hung.wait(), 2)  # the slow server notices that its client has disconnected
        await gateway.wait_until_idle()
        assert gateway.gateway.failover.breakers.get("a", "m").is_healthy  # being slower is no failure


async def test_a_server_that_starts_in_time_answers_alone():
    async with (
        RawEngine(send_pieces(GOOD)) as first,
        RawEngine(send_pieces(GOOD)) as second,
        run_hedging_gateway(first, second, after=5) as gateway,
    ):
        for _ in range(5):
            assert (await gateway.send_request(CHAT)).text == "good"
        assert len(first.requests) + len(second.requests) == 5


async def test_when_the_first_attempt_fails_during_the_second_the_second_answers():
    async def fail_late(turn: Turn) -> None:
        await wait_until(lambda: good.requests)
        await turn.send(response(b"", status="500 Internal Server Error"))

    async def answer(turn: Turn) -> None:
        await wait_until(lambda: gateway.gateway.catalog.loads["a"].consecutive_failures)
        await turn.send(GOOD)

    async with RawEngine(fail_late) as bad, RawEngine(answer) as good, run_hedging_gateway(bad, good) as gateway:
        assert (await gateway.send_request(CHAT)).text == "good"


async def test_when_both_fail_a_third_answers():
    broken = send_pieces(response(b"", status="500 Internal Server Error"))

    async def fail_late(turn: Turn) -> None:
        await wait_until(lambda: second.requests)
        await turn.send(response(b"", status="500 Internal Server Error"))

    async with (
        RawEngine(fail_late) as first,
        RawEngine(broken) as second,
        RawEngine(send_pieces(GOOD)) as third,
        run_hedging_gateway(first, second, third) as gateway,
    ):
        answer = await gateway.send_request(CHAT)
        assert answer.text == "good"
        assert answer.headers["x-penstock-server"] == "c"
        assert len(first.requests) == len(second.requests) == len(third.requests) == 1


async def test_a_client_that_disconnects_stops_both():
    async with (
        RawEngine(Turn.hang) as first,
        RawEngine(Turn.hang) as second,
        run_hedging_gateway(first, second) as gateway,
    ):
        client = await gateway.connect_client()
        await client.send(CHAT)
        await wait_until(lambda: first.requests and second.requests)
        client.close()
        await gateway.wait_until_idle()


async def test_a_failure_after_the_first_byte_ends_the_stream():
    async with (
        RawEngine(send_pieces_then("close", stream("one", "two")[:-60])) as bad,
        RawEngine(send_pieces(GOOD)) as good,
        run_hedging_gateway(bad, good, after=5) as gateway,
    ):
        answer = await gateway.send_request(STREAM)
        assert b"one" in answer.body
        assert b"error" in answer.body
        assert not good.requests


async def test_a_hundred_close_races_send_nothing_twice():
    text = "Ships pass the lock one after the other."
    sims = [Simulator(replace(SimOptions.instant("vllm", "m", text=text, slots=64))) for _ in range(2)]
    async with sims[0], sims[1], run_hedging_gateway(*sims, after=0.002) as gateway:
        sims[0].faults = Faults(slow=0.5, drip_seconds=0.004, scope="generation")

        async def one() -> Answer:
            answer: Answer = await gateway.send_request(STREAM)
            return answer

        for _ in range(10):
            for answer in await asyncio.gather(*(one() for _ in range(10))):
                assert answer.complete
                assert answer.text == text
                assert answer.data.count(b"[DONE]") == 1
        await gateway.wait_until_idle()
        await wait_until(lambda: not any(sim.running or sim.waiting for sim in sims))
