"""Coroutines that run without a task: they continue as soon as what they await has a result."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.coroutine_runner import Outcome, run_now


def test_a_coroutine_runs_at_once_up_to_its_first_wait():
    seen = []

    async def work():
        seen.append("started")
        await outcome
        seen.append("ended")

    outcome: Outcome[None] = Outcome()
    run_now(work())
    assert seen == ["started"]


def test_it_continues_in_the_same_turn_when_its_outcome_is_settled():
    seen = []

    async def work():
        seen.append(await outcome)

    outcome: Outcome[str] = Outcome()
    run_now(work())
    outcome.settle("there")
    assert seen == ["there"]


def test_a_settled_outcome_is_not_waited_for():
    seen = []
    outcome: Outcome[int] = Outcome()
    outcome.settle(7)

    async def work():
        seen.append(await outcome)
        seen.append(await outcome)

    run_now(work())
    assert seen == [7, 7]


def test_the_first_result_counts():
    outcome: Outcome[int] = Outcome()
    outcome.settle(1)
    outcome.settle(2)
    assert outcome.value == 1


def test_an_outcome_that_was_reset_can_be_awaited_again():
    seen = []
    outcome: Outcome[int] = Outcome()

    async def work():
        for _ in range(3):
            seen.append(await outcome)
            outcome.reset()

    run_now(work())
    for value in (1, 2, 3):
        outcome.settle(value)
    assert seen == [1, 2, 3]


@given(st.lists(st.booleans(), max_size=200))
def test_any_sequence_of_early_and_late_results_is_seen_in_order(early):
    seen, waiting = [], []

    async def work():
        for number, ready in enumerate(early):
            outcome: Outcome[int] = Outcome()
            if ready:
                outcome.settle(number)
            else:
                waiting.append((outcome, number))
            seen.append(await outcome)

    run_now(work())
    while waiting:
        outcome, number = waiting.pop()
        outcome.settle(number)
    assert seen == list(range(len(early)))


def test_a_coroutine_may_start_another_and_wait_for_it():
    seen = []

    async def inner(done: Outcome[str]):
        seen.append("inner")
        await gate
        done.settle("result")

    async def outer():
        done: Outcome[str] = Outcome()
        run_now(inner(done))
        seen.append(await done)

    gate: Outcome[None] = Outcome()
    run_now(outer())
    gate.settle(None)
    assert seen == ["inner", "result"]


def test_a_coroutine_that_resumes_another_is_not_resumed_by_it():
    seen = []
    ping: Outcome[str] = Outcome()
    pong: Outcome[str] = Outcome()

    async def wait_for_ping():
        seen.append(await ping)
        pong.settle("pong")
        seen.append("left ended")

    async def wait_for_pong():
        ping.settle("ping")
        seen.append(await pong)

    run_now(wait_for_ping())
    run_now(wait_for_pong())
    assert seen == ["ping", "left ended", "pong"]


async def test_futures_and_tasks_may_be_awaited():
    seen = []
    future = asyncio.get_running_loop().create_future()

    async def later() -> str:
        await asyncio.sleep(0)
        return "task"

    async def work():
        seen.append(await future)
        seen.append(await asyncio.get_running_loop().create_task(later()))

    run_now(work())
    future.set_result("future")
    async with asyncio.timeout(1):
        while len(seen) < 2:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)
    assert seen == ["future", "task"]


async def test_the_error_of_a_future_is_raised_where_it_is_awaited():
    seen = []
    future = asyncio.get_running_loop().create_future()

    async def work():
        try:
            await future
        except ValueError as error:
            seen.append(str(error))

    run_now(work())
    future.set_exception(ValueError("no"))
    await asyncio.sleep(0)
    assert seen == ["no"]


async def test_the_cancellation_of_a_task_is_raised_where_it_is_awaited():
    seen = []
    task = asyncio.get_running_loop().create_task(asyncio.sleep(60))

    async def work():
        try:
            await task
        except asyncio.CancelledError:
            seen.append("cancelled")

    run_now(work())
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["cancelled"]


def test_an_error_that_escapes_is_logged(caplog: pytest.LogCaptureFixture):
    async def work():
        await outcome
        raise ValueError("escaped")

    outcome: Outcome[None] = Outcome()
    run_now(work())
    with caplog.at_level(logging.ERROR):
        outcome.settle(None)
    assert "escaped" in caplog.text


def test_awaiting_anything_else_is_logged(caplog: pytest.LogCaptureFixture):
    class Odd:
        def __await__(self):
            yield "something"

    async def work():
        await Odd()

    with caplog.at_level(logging.ERROR):
        run_now(work())
    assert "neither an Outcome nor a future" in caplog.text


def test_a_long_row_of_settled_outcomes_does_not_grow_the_stack():
    count = 0

    async def work():
        nonlocal count
        for _ in range(50_000):
            outcome: Outcome[None] = Outcome()
            outcome.settle(None)
            await outcome
            count += 1

    run_now(work())
    assert count == 50_000
