"""Each fault does what it says, on every kind of server, and a server without faults is well again."""

import asyncio
import random
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim import Faults, SimOptions, Simulator
from penstock.sim.faults import KINDS
from tests.sim.client import Answer, Line, ask, until

CHATS = {
    "ollama": ("/api/chat", "gemma3:1b"),
    "vllm": ("/v1/chat/completions", "m"),
    "llamacpp": ("/v1/chat/completions", "m"),
    "mlx": ("/api/chat", "m"),
}
PROBES = {"ollama": "/api/tags", "vllm": "/v1/models", "llamacpp": "/health", "mlx": "/health"}
kinds = pytest.mark.parametrize("kind", CHATS)
streams = pytest.mark.parametrize("stream", [False, True])


async def chat(simulator: Simulator, *, stream: bool = False, patience: float = 5) -> Answer:
    path, model = CHATS[simulator.kind.name]
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return await ask(simulator.url, "POST", path, body, patience=patience)


def server(kind: str, **faults: Any) -> Simulator:
    options = SimOptions.instant(kind, CHATS[kind][1])
    simulator = Simulator(options)
    simulator.faults = Faults(**faults)
    return simulator


@kinds
@streams
async def test_a_cut_ends_the_connection_in_mid_answer(kind: str, stream: bool) -> None:
    async with server(kind, cut=1) as simulator:
        answer = await chat(simulator, stream=stream)
    assert (answer.status, answer.ended) == (200, "cut")
    assert answer.body


@kinds
@streams
async def test_a_reset_does_it_the_hard_way(kind: str, stream: bool) -> None:
    async with server(kind, reset=1) as simulator:
        answer = await chat(simulator, stream=stream)
    assert answer.ended == "reset"


@kinds
async def test_a_hang_before_the_answer_sends_nothing(kind: str) -> None:
    async with server(kind, hang_before=1) as simulator:
        answer = await chat(simulator, patience=0.1)
    assert (answer.raw, answer.ended) == (b"", "silent")


@kinds
@streams
async def test_a_hang_in_mid_answer_sends_a_part(kind: str, stream: bool) -> None:
    async with server(kind, hang_middle=1) as simulator:
        answer = await chat(simulator, stream=stream, patience=0.1)
        assert (answer.status, answer.ended) == (200, "silent")
        assert answer.body
        await until(lambda: simulator.running == 0)


@kinds
async def test_a_hang_of_some_seconds_ends_in_an_answer(kind: str) -> None:
    async with server(kind, hang_before=1, hang_seconds=0.01) as simulator:
        answer = await chat(simulator)
    assert (answer.status, answer.ended) == (200, "whole")


@kinds
async def test_garbage_is_no_http(kind: str) -> None:
    async with server(kind, garbage=1) as simulator:
        answer = await chat(simulator)
    assert answer.ended == "garbage"


@kinds
@streams
async def test_bad_json_is_good_http(kind: str, stream: bool) -> None:
    async with server(kind, bad_json=1) as simulator:
        answer = await chat(simulator, stream=stream)
    assert (answer.status, answer.ended) == (200, "whole")
    assert b'"}{:' in answer.body


@kinds
async def test_a_content_length_may_be_less_than_the_body(kind: str) -> None:
    async with server(kind, lie_short=1) as simulator:
        answer = await chat(simulator)
    head, _, body = answer.raw.partition(b"\r\n\r\n")
    assert int(answer.header("content-length") or 0) < len(body)
    assert head


@kinds
@streams
async def test_a_content_length_may_be_more_than_the_body(kind: str, stream: bool) -> None:
    async with server(kind, lie_long=1) as simulator:
        answer = await chat(simulator, stream=stream, patience=0.1)
    assert int(answer.header("content-length") or 0) > len(answer.body) > 0
    assert answer.ended == "silent"


@kinds
async def test_slow_answers_drip_and_are_whole(kind: str) -> None:
    async with server(kind, slow=1, drip_seconds=0.002) as simulator:
        began = time.monotonic()
        answer = await chat(simulator)
        passed = time.monotonic() - began
    assert answer.ended == "whole"
    assert passed > 16 * 0.002
    assert len(answer.pieces) > 3


@kinds
@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_storms_have_a_status_and_a_time_to_come_back(kind: str, status: int) -> None:
    async with server(kind, retry_after=2.5, **{f"status_{status}": 1}) as simulator:
        answer = await chat(simulator)
    assert answer.status == status
    assert answer.header("retry-after") == ("3" if status in {429, 503} else None)
    assert isinstance(answer.json, dict)


@kinds
@pytest.mark.parametrize("fault", ["crash_before", "crash_middle"])
@streams
async def test_a_crash_is_told_in_the_engine_s_own_way(kind: str, fault: str, stream: bool) -> None:
    async with server(kind, **{fault: 1}) as simulator:
        answer = await chat(simulator, stream=stream)
        assert simulator.counters.completed == 0
    told_inside = stream and (fault == "crash_middle" or kind == "vllm")
    assert answer.status == (200 if told_inside else 500)
    assert b"error" in answer.body or b"detail" in answer.body
    assert answer.ended == "whole"


@kinds
async def test_who_refuses_always_does_not_even_listen_and_returns_to_its_port(kind: str) -> None:
    async with server(kind) as simulator:
        port = simulator.port
        simulator.faults = Faults(refuse=1)
        with pytest.raises(ConnectionRefusedError):
            await chat(simulator)
        simulator.faults = Faults()
        assert simulator.port == port
        assert (await chat(simulator)).status == 200


async def test_who_refuses_sometimes_closes_connections_without_an_answer() -> None:
    async with server("ollama", refuse=0.5) as simulator:
        ended = [(await chat(simulator)).ended for _ in range(40)]
    assert set(ended) <= {"whole", "cut", "reset"}
    assert 5 < ended.count("whole") < 35


async def test_a_kept_connection_can_be_refused_too() -> None:
    async with server("ollama") as simulator:
        line = await Line.to(simulator.url)
        await line.send("GET", "/api/tags")
        assert (await line.receive()).status == 200
        simulator.faults = Faults(refuse=0.999999)
        await line.send("GET", "/api/tags")
        assert (await line.receive()).status == 0
        await line.close()


@kinds
async def test_faults_can_be_for_generations_only(kind: str) -> None:
    async with server(kind, status_503=1, scope="generation") as simulator:
        assert (await ask(simulator.url, "GET", PROBES[kind])).status == 200
        assert (await chat(simulator)).status == 503
        simulator.faults = Faults(status_503=1, scope="probe")
        assert (await ask(simulator.url, "GET", PROBES[kind])).status == 503
        assert (await chat(simulator)).status == 200


async def test_faults_can_be_set_and_looked_at_over_http() -> None:
    async with server("vllm") as simulator:
        put = await ask(simulator.url, "PUT", "/sim/faults", {"status_503": 1, "retry_after": 7})
        assert (put.status, put.json["status_503"], put.json["hang_seconds"]) == (200, 1.0, None)
        assert (await chat(simulator)).header("retry-after") == "7"
        state = (await ask(simulator.url, "GET", "/sim/state")).json
        assert state["faults"]["status_503"] == 1.0
        assert state["counters"]["faults"] == {"status_503": 1}
        assert state["counters"]["requests"] == {"/v1/chat/completions": 1}
        assert (state["kind"], state["running"], state["waiting"]) == ("vllm", 0, 0)
        assert (await ask(simulator.url, "PUT", "/sim/faults", put.json)).status == 200
        assert (await ask(simulator.url, "PUT", "/sim/faults", {})).json["status_503"] == 0
        assert (await chat(simulator)).status == 200
        for bad in ({"status_503": 2}, {"statsu_503": 1}, {"cut": None}, b"x"):
            assert (await ask(simulator.url, "PUT", "/sim/faults", bad)).status == 400
        assert (await ask(simulator.url, "GET", "/sim/nothing")).status == 404


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows")
@pytest.mark.parametrize(
    ("fault", "ended"), [("cut", "cut"), ("reset", "reset"), ("garbage", "garbage"), ("slow", "whole")]
)
def test_faults_are_the_same_on_uvloop(fault: str, ended: str) -> None:
    async def faulty() -> str:
        async with server("ollama", **{fault: 1}, drip_seconds=0) as simulator:
            return (await chat(simulator, stream=True)).ended

    async def refusing() -> None:
        async with server("ollama") as simulator:
            simulator.faults = Faults(refuse=1)
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await chat(simulator)
            simulator.faults = Faults()
            assert (await chat(simulator)).status == 200

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(faulty()) == ended
        runner.run(refusing())


async def test_faults_cease_after_their_time() -> None:
    async with server("ollama", status_503=1, seconds=0.05) as simulator:
        assert (await chat(simulator)).status == 503
        await until(lambda: simulator.faults == Faults())
        assert (await chat(simulator)).status == 200


async def test_after_a_thousand_faults_nothing_is_left_behind() -> None:
    chance = {kind: 0.08 for kind in KINDS if kind != "slow"}
    async with server("ollama", **chance, slow=0.05, drip_seconds=0, hang_seconds=0.01) as simulator:
        dice = random.Random(7)

        async def caller() -> None:
            for _ in range(50):
                await chat(simulator, stream=dice.random() < 0.5, patience=0.02)

        await asyncio.gather(*(caller() for _ in range(20)))
        assert set(simulator.counters.faults) == set(KINDS)
        simulator.faults = Faults()
        await until(lambda: simulator.running == simulator.waiting == 0)
        await until(lambda: not simulator.connections)
        assert (await chat(simulator)).status == 200


async def test_the_same_seed_deals_the_same_faults() -> None:
    async def dealt() -> dict[str, int]:
        async with server("ollama", status_503=0.3, status_429=0.3) as simulator:
            for _ in range(30):
                await chat(simulator)
            return simulator.counters.faults

    assert await dealt() == await dealt()


def test_faults_are_read_from_the_command_line_s_words() -> None:
    faults = Faults.parse("refuse=0.1, hang_before=0.05,slow,scope=generation,hang_seconds=3")
    assert faults == Faults(refuse=0.1, hang_before=0.05, slow=1, scope="generation", hang_seconds=3)
    assert Faults.parse("") == Faults()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("refsue=0.1", "did you mean 'refuse'"),
        ("cut=2", "a probability from 0 to 1"),
        ("cut=often", "a number is needed"),
        ("drip_seconds=-1", "seconds, 0 or more"),
        ("scope=mine", "one of all, generation, probe"),
    ],
)
def test_impossible_faults_are_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Faults.parse(text)


@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1)), st.integers())
def test_any_faults_survive_being_written_down_and_only_what_is_possible_is_drawn(
    chances: dict[str, float], seed: int
) -> None:
    faults = Faults(**chances)  # type: ignore[arg-type]
    assert Faults.from_mapping(faults.as_mapping()) == faults
    drawn = faults.choose_fault(random.Random(seed), generating=True, refusing=True)
    assert drawn is None or chances[drawn] > 0
