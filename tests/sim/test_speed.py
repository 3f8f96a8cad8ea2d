"""The speed model, in virtual time: loading, prefill, decoding, slots, the queue, eviction."""

import asyncio
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.sim import SimModel, SimOptions
from penstock.sim.speed_model import EngineCrashError, QueueFullError, SpeedModel
from tests.sim.virtual_time import run

A, B, C = (SimModel.from_name(name) for name in ("gemma3:1b", "phi3:3b", "qwen3:14b"))
OPTIONS = SimOptions(
    slots=2, load_seconds=5, tokens_per_second=50, prefill_tokens_per_second=2000, max_loaded=2, queue_limit=100
)


def engine_of(options: SimOptions = OPTIONS, *, per_model: bool = True) -> SpeedModel:
    return SpeedModel(options, (A, B, C), per_model=per_model)


@dataclass
class Told:
    """When it began to generate, when it was done, and what it took, in simulated seconds."""

    began: float = math.nan
    ended: float = math.nan
    load: float = math.nan
    prefill: float = math.nan
    decode: float = math.nan


async def generate(engine: SpeedModel, model: SimModel = A, prompt: int = 0, tokens: int = 0) -> Told:
    told = Told()
    async with engine.open_session(model) as session:
        told.began = engine.now()
        await session.read_prompt(prompt)
        for _ in range(tokens):
            await session.generate_token()
        told.load, told.prefill, told.decode = session.load_seconds, session.prefill_seconds, session.decode_seconds
    told.ended = engine.now()
    return told


def test_a_first_call_loads_reads_and_writes_at_the_rates_given() -> None:
    told = run(generate(engine_of(), prompt=1000, tokens=100))
    assert (told.load, told.prefill, told.decode) == pytest.approx((5, 0.5, 2))
    assert told.ended == pytest.approx(7.5)


def test_a_second_call_finds_the_model_loaded() -> None:
    async def twice() -> Told:
        engine = engine_of()
        await generate(engine)
        return await generate(engine, tokens=50)

    assert run(twice()).load == 0


def test_a_model_s_own_rates_come_before_the_server_s() -> None:
    slow = replace(A, tokens_per_second=10.0, prefill_tokens_per_second=100.0, load_seconds=1.0)
    told = run(generate(engine_of(), slow, prompt=100, tokens=10))
    assert (told.load, told.prefill, told.decode) == pytest.approx((1, 1, 1))


def test_a_faster_clock_shortens_the_wait_and_not_what_is_told() -> None:
    async def timed() -> tuple[float, Told]:
        told = await generate(engine_of(replace(OPTIONS, clock_scale=100)), prompt=1000, tokens=100)
        return asyncio.get_running_loop().time(), told

    passed, told = run(timed())
    assert passed == pytest.approx(0.075)
    assert (told.load, told.decode) == pytest.approx((5, 2))


def test_who_finds_no_slot_waits_in_order_of_arrival() -> None:
    async def crowd() -> list[Told]:
        engine = engine_of(replace(OPTIONS, load_seconds=0))
        return await asyncio.gather(*(generate(engine, tokens=50) for _ in range(6)))

    assert [round(told.began, 6) for told in run(crowd())] == [0, 0, 1, 1, 2, 2]


def test_each_loaded_model_has_its_own_slots_or_the_server_has_one_set() -> None:
    async def mixed(per_model: bool) -> float:
        engine = engine_of(replace(OPTIONS, load_seconds=0), per_model=per_model)
        await asyncio.gather(*(generate(engine, model, tokens=50) for model in (A, A, B, B)))
        return engine.now()

    assert run(mixed(per_model=True)) == pytest.approx(1)
    assert run(mixed(per_model=False)) == pytest.approx(2)


def test_the_least_recently_used_idle_model_makes_room() -> None:
    async def visits() -> list[str]:
        engine = engine_of()
        for model in (A, B, A, C):
            await generate(engine, model)
        return sorted(engine.residents)

    assert run(visits()) == sorted([A.name, C.name])


def test_a_model_in_use_is_never_evicted_but_takes_nobody_new() -> None:
    async def crowded() -> tuple[Told, Told, Told]:
        engine = engine_of(replace(OPTIONS, max_loaded=1))
        first = asyncio.create_task(generate(engine, A, tokens=500))
        await asyncio.sleep(6)
        second = asyncio.create_task(generate(engine, B, tokens=50))
        await asyncio.sleep(1)
        third = asyncio.create_task(generate(engine, A, tokens=50))
        return await first, await second, await third

    first, second, third = run(crowded())
    assert first.ended == pytest.approx(15)
    assert second.began == pytest.approx(20)
    assert third.began == pytest.approx(26)


def test_a_full_queue_refuses_at_once() -> None:
    async def crowd() -> list[float | type[BaseException]]:
        engine = engine_of(replace(OPTIONS, load_seconds=0, slots=1, queue_limit=2), per_model=False)
        told = await asyncio.gather(*(generate(engine, tokens=50) for _ in range(5)), return_exceptions=True)
        return [type(one) if isinstance(one, BaseException) else round(one.ended, 6) for one in told]

    assert run(crowd()) == [1, 2, 3, QueueFullError, QueueFullError]


def test_who_gives_up_waiting_leaves_the_queue_and_who_gives_up_generating_frees_the_slot() -> None:
    async def leaving() -> tuple[Told, SpeedModel]:
        engine = engine_of(replace(OPTIONS, load_seconds=0, slots=1))
        running, waiting, last = (asyncio.create_task(generate(engine, tokens=5000)) for _ in range(3))
        await asyncio.sleep(1)
        assert (engine.running, engine.waiting) == (1, 2)
        waiting.cancel()
        await asyncio.sleep(1)
        assert (engine.running, engine.waiting) == (1, 1)
        running.cancel()
        return await last, engine

    told, engine = run(leaving())
    assert told.began == pytest.approx(2)
    assert (engine.running, engine.waiting, engine.counters.cancelled) == (0, 0, 2)


def test_a_load_that_nobody_waits_for_any_more_lets_the_next_one_load() -> None:
    async def leaving() -> Told:
        engine = engine_of()
        first = asyncio.create_task(generate(engine, A))
        second = asyncio.create_task(generate(engine, B))
        await asyncio.sleep(1)
        first.cancel()
        return await second

    assert run(leaving()).began == pytest.approx(6)


@pytest.mark.parametrize(("crash", "written"), [("crash_before", 0), ("crash_middle", 1)])
def test_a_crash_comes_before_or_after_the_first_token_and_frees_the_slot(crash: str, written: int) -> None:
    async def crashing() -> tuple[int, SpeedModel]:
        engine, tokens = engine_of(), 0
        try:
            async with engine.open_session(A, crash=crash) as session:
                await session.read_prompt(10)
                for _ in range(5):
                    await session.generate_token()
                    tokens += 1
        except EngineCrashError:
            return tokens, engine
        return -1, engine

    tokens, engine = run(crashing())
    assert tokens == written
    assert (engine.running, engine.counters.completed) == (0, 0)


CALLS = st.lists(
    st.tuples(
        st.floats(0, 60),  # arrives
        st.sampled_from([A, B, C]),
        st.integers(0, 3000),  # prompt tokens
        st.integers(0, 150),  # tokens
        st.one_of(st.none(), st.floats(0, 30)),  # gives up after
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(CALLS, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_whatever_comes_and_goes_slots_and_memory_are_never_exceeded_and_all_are_given_back(
    calls: list[tuple[float, SimModel, int, int, float | None]], slots: int, max_loaded: int, per_model: bool
) -> None:
    async def life() -> None:
        options = replace(OPTIONS, slots=slots, max_loaded=max_loaded)
        engine = engine_of(options, per_model=per_model)
        done = 0

        async def call(arrives: float, model: SimModel, prompt: int, tokens: int, patience: float | None) -> None:
            nonlocal done
            await asyncio.sleep(arrives)
            try:
                async with asyncio.timeout(patience), engine.open_session(model) as session:
                    assert engine.running <= slots * (max_loaded if per_model else 1)
                    assert len(engine.residents) <= max_loaded
                    assert model.name in engine.residents
                    await session.read_prompt(prompt)
                    for _ in range(tokens):
                        await session.generate_token()
                done += 1
            except TimeoutError:
                assert patience is not None

        await asyncio.gather(*(call(*one) for one in calls))
        assert (engine.running, engine.waiting) == (0, 0)
        assert (engine.counters.started, engine.counters.completed) == (len(calls), done)
        assert engine.counters.cancelled == len(calls) - done
        assert all(resident.users == 0 for resident in engine.residents.values())
        # Nothing was lost: the server still answers.
        await generate(engine, C, tokens=1)

    run(life())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.integers(1, 4))
def test_one_model_s_calls_take_no_longer_than_a_fair_queue_needs(lengths: list[int], slots: int) -> None:
    async def crowd() -> float:
        engine = engine_of(replace(OPTIONS, slots=slots, load_seconds=0))
        await asyncio.gather(*(generate(engine, tokens=tokens) for tokens in lengths))
        return engine.now()

    free = [0.0] * slots
    for tokens in lengths:
        at = min(range(slots), key=free.__getitem__)
        free[at] += tokens / 50
    assert run(crowd()) == pytest.approx(max(free))
