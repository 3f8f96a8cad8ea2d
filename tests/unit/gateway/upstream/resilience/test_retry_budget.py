"""The retry budget: how many retries it grants over time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.upstream.resilience.retry_budget import MINIMUM, RATIO, WINDOW, RetryBudget


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 200), st.integers(0, 60)), max_size=30))
def test_retries_are_never_more_than_a_fifth_of_the_calls_and_a_small_minimum(turns):
    budget, now, calls, taken = RetryBudget(0.0), 0.0, 0, 0
    for passed, came, wanted in turns:
        now += passed
        calls += came
        budget.calls += came
        taken += sum(budget.try_take(now) for _ in range(wanted))
        assert taken <= RATIO * calls + MINIMUM * (1 + now / WINDOW) + 1e-6
    assert budget.taken == taken


def test_a_quiet_gateway_can_retry_and_a_busy_hour_saves_nothing_up():
    budget = RetryBudget(0.0)
    assert sum(budget.try_take(0.0) for _ in range(100)) == MINIMUM
    budget.calls += 3_600_000  # a thousand a second
    assert sum(budget.try_take(3600.0) for _ in range(100_000)) == pytest.approx(MINIMUM + RATIO * 1000 * WINDOW, abs=1)


def test_a_fifth_of_steady_traffic_may_be_retried_for_ever():
    budget, taken = RetryBudget(0.0, minimum=0.0), 0
    for call in range(10_000):
        budget.calls += 1
        taken += budget.try_take(call / 100)
    assert taken == pytest.approx(2000, rel=0.01)
