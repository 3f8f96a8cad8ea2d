"""Retry plans with breakers and budget: one good server is enough, and a fleet in trouble gets little extra work."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.errors import ConnectFailed, PenstockError, UpstreamCut, UpstreamStatus
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS, Breaker, BreakerPair, BreakerPolicy
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.resilience.retry_budget import MINIMUM, RATIO, WINDOW, RetryBudget
from penstock.gateway.upstream.resilience.retry_plan import (
    LAST_RESORT_SECONDS,
    MIN_UNBUDGETED_WAIT,
    Retry,
    RetryPlan,
    Step,
)
from tests.support.breakers import count_failure

ERRORS: tuple[PenstockError, ...] = (
    ConnectFailed("refused"),
    UpstreamCut("cut"),
    UpstreamStatus("broken", status=500),
    UpstreamStatus("slow down", status=429, retry_after=1.0),
)


@dataclass
class Fleet:
    """Servers that fail with their own chances; `rates` by index."""

    rates: list[float]
    random: random.Random
    pairs: list[BreakerPair] = field(init=False)
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.0))
    now: float = 0.0
    tries: int = 0
    sent: int = 0
    refused_by_breakers: int = 0

    def __post_init__(self) -> None:
        policy = BreakerPolicy()
        self.pairs = [BreakerPair(Breaker(policy), Breaker(policy), self.random.random) for _ in self.rates]

    def call(self) -> bool:
        """Make one call with its candidates in random order; return whether one responded."""
        self.budget.calls += 1
        order = self.random.sample(range(len(self.rates)), len(self.rates))
        plan = RetryPlan(len(order), lambda index: self.pairs[order[index]], self.budget, self.random.random)
        while (step := plan.next_step(self.now)) is not None:
            if self.attempt(order[step.index], plan, step):
                return True
        self.refused_by_breakers += len(plan.blocked_by_breaker)
        return False

    def attempt(self, server: int, plan: RetryPlan, step: Step) -> bool:
        pair = self.pairs[server]
        permits = pair.acquire(self.now) if pair.is_tracking else NO_PERMITS
        self.tries += 1
        self.now += step.wait
        if self.random.random() >= self.rates[server]:
            self.sent += 1
            pair.record_success(permits, self.now)
            return True
        error = self.random.choice(ERRORS)
        sent = not isinstance(error, ConnectFailed)
        self.sent += sent
        count_failure(pair, permits, error, self.now, answered=isinstance(error, UpstreamStatus))
        retry = Retry.ONCE if isinstance(error, UpstreamStatus) else Retry.NEVER
        plan.record_failure(step.index, sent, retry)
        return False


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6),
    st.sampled_from([0.001, 0.02, 0.3, 3.0]),
    st.integers(0, 2**32),
)
def test_with_one_healthy_server_every_call_succeeds_however_the_others_fail(rates, gap, seed):
    fleet = Fleet([*rates, 0.0], random.Random(seed))
    for _ in range(300):
        assert fleet.call()
        fleet.now += gap
    # within the budget, but for steps to servers in good standing, of which breakers leave few
    assert fleet.budget.calls == 300


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.sampled_from([0.001, 0.02, 0.3]), st.integers(0, 2**32))
def test_where_everything_fails_few_requests_are_sent_beyond_the_calls(servers, gap, seed):
    fleet = Fleet([1.0] * servers, random.Random(seed))
    for _ in range(400):
        assert not fleet.call()
        fleet.now += gap
    # each server's good standing ends with its first failure, and with each time that it is brought back
    assert fleet.sent <= 400 * (1 + RATIO) + MINIMUM * (1 + fleet.now / WINDOW) + servers


def test_breakers_limit_failing_servers_to_a_few_attempts_in_a_thousand_calls():
    fleet = Fleet([1.0, 1.0, 0.0], random.Random(7))
    for _ in range(1000):
        assert fleet.call()
        fleet.now += 0.01
    assert fleet.tries - 1000 < 40


def make_pairs(count: int) -> list[BreakerPair]:
    return [BreakerPair(Breaker(BreakerPolicy()), Breaker(BreakerPolicy()), lambda: 0.5) for _ in range(count)]


def test_a_server_that_may_be_busy_is_retried_once_after_a_moment():
    [pair], budget = make_pairs(1), RetryBudget(0.0)
    plan = RetryPlan(1, lambda _: pair, budget, lambda: 0.5)
    assert plan.next_step(0.0) == Step(0)
    count_failure(pair, NO_PERMITS, UpstreamStatus("broken", status=503), 0.0, answered=True)
    plan.record_failure(0, request_sent=True, retry=Retry.ONCE)
    assert plan.next_step(0.0) == Step(0, 0.025)
    count_failure(pair, NO_PERMITS, UpstreamStatus("broken", status=503), 0.0, answered=True)
    plan.record_failure(0, request_sent=True, retry=Retry.ONCE)
    assert plan.next_step(0.0) is None


def test_a_busy_server_is_retried_after_growing_waits_until_patience_ends():
    [pair], budget = make_pairs(1), RetryBudget(0.0)
    plan, now, waits = RetryPlan(1, lambda _: pair, budget, lambda: 0.5, deadline=30.0), 0.0, []
    step = plan.next_step(now)
    while step is not None:
        now += step.wait
        waits.append(step.wait)
        count_failure(pair, NO_PERMITS, UpstreamStatus("busy", status=503), now, answered=True)
        plan.record_failure(0, request_sent=True, retry=Retry.WHILE_PATIENT)
        step = plan.next_step(now)
    assert waits[1:5] == [0.025, 0.05, 0.1, 0.2]
    assert 28.0 < now < 30.0
    assert pair.is_healthy


def test_without_budget_busy_servers_are_asked_more_seldom():
    [pair], budget = make_pairs(1), RetryBudget(0.0, minimum=0.0)
    plan = RetryPlan(1, lambda _: pair, budget, lambda: 0.0, deadline=30.0)
    plan.next_step(0.0)
    plan.record_failure(0, request_sent=True, retry=Retry.WHILE_PATIENT)
    assert plan.next_step(0.0) == Step(0, MIN_UNBUDGETED_WAIT)


@pytest.mark.parametrize(("retry_after", "expected"), [(3.0, None), (1.0, Step(0, 1.025))])
@pytest.mark.parametrize("is_known", [False, True])
def test_only_a_short_pause_is_waited_for(retry_after: float, expected: Step | None, is_known: bool):
    [pair], budget = make_pairs(1), RetryBudget(0.0)
    plan = RetryPlan(1, lambda _: pair, budget, lambda: 0.5, deadline=30.0)
    if not is_known:
        plan.next_step(0.0)
    count_failure(pair, NO_PERMITS, UpstreamStatus("busy", status=503, retry_after=retry_after), 0.0, answered=True)
    if not is_known:
        plan.record_failure(0, request_sent=True, retry=Retry.WHILE_PATIENT)
    assert plan.next_step(0.0) == expected
    if expected is not None:
        plan.record_failure(0, request_sent=True, retry=Retry.WHILE_PATIENT)


def test_a_pause_beyond_the_callers_patience_is_not_waited_for():
    [pair], budget = make_pairs(1), RetryBudget(0.0)
    count_failure(pair, NO_PERMITS, UpstreamStatus("busy", status=503, retry_after=1.0), 0.0, answered=True)
    assert RetryPlan(1, lambda _: pair, budget, lambda: 0.5, deadline=1.0).next_step(0.0) is None


def test_without_budget_an_unhealthy_server_is_skipped_for_a_healthy_one():
    doubtful, healthy, first = make_pairs(3)
    count_failure(doubtful, NO_PERMITS, UpstreamCut("cut"), 0.0, answered=False)
    budget = RetryBudget(0.0, minimum=0.0)
    row = [first, doubtful, healthy]
    plan = RetryPlan(3, row.__getitem__, budget, lambda: 0.5)
    assert plan.next_step(0.0) == Step(0)
    plan.record_failure(0, request_sent=True)
    assert plan.next_step(0.0) == Step(2)


@pytest.mark.parametrize("has_probe", [False, True])
def test_a_server_with_an_open_breaker_is_tried_when_no_other_is_left(has_probe: bool):
    [pair], budget = make_pairs(1), RetryBudget(0.0)
    for _ in range(3):
        count_failure(pair, NO_PERMITS, UpstreamCut("cut"), 0.0, answered=False)
    if has_probe:
        pair.acquire(2.0)
    plan = RetryPlan(1, lambda _: pair, budget, lambda: 0.5)
    assert plan.next_step(2.0 if has_probe else 0.5) == Step(0)
    plan.record_failure(0, request_sent=True)
    assert plan.next_step(2.0) is None


def test_of_several_servers_with_open_breakers_the_first_is_free_and_the_others_cost_budget():
    pairs = make_pairs(3)
    for pair in pairs:
        for _ in range(3):
            count_failure(pair, NO_PERMITS, UpstreamCut("cut"), 0.0, answered=False)
    plan = RetryPlan(3, pairs.__getitem__, RetryBudget(0.0, minimum=0.0), lambda: 0.5)
    assert plan.next_step(0.5) == Step(0)
    plan.record_failure(0, request_sent=False, unreachable=True)
    assert plan.next_step(0.5) == Step(1)  # the first one did not get the request
    plan.record_failure(1, request_sent=True)
    assert plan.next_step(0.5) is None
    assert plan.blocked_by_breaker == [2]


def test_dead_servers_are_tried_for_a_few_seconds_only():
    pairs = make_pairs(3)
    for pair in pairs:
        count_failure(pair, NO_PERMITS, ConnectFailed("no route"), 0.0, answered=False)
    plan = RetryPlan(3, pairs.__getitem__, RetryBudget(0.0), lambda: 0.5)
    assert plan.next_step(0.1) == Step(0)
    plan.record_failure(0, request_sent=False, unreachable=True)
    assert plan.next_step(0.1 + LAST_RESORT_SECONDS) is None


def test_another_model_of_an_unreachable_server_is_tried_last():
    registry = BreakerRegistry(lambda: 0.5)
    pairs = [registry.get("hung", "big"), registry.get("hung", "other"), registry.get("well", "small")]
    plan = RetryPlan(3, pairs.__getitem__, RetryBudget(0.0), lambda: 0.5)
    assert plan.next_step(0.0) == Step(0)
    plan.record_failure(0, request_sent=True, unreachable=True)
    assert plan.next_step(0.0) == Step(2)
    plan.record_failure(2, request_sent=True)
    assert plan.next_step(0.0) == Step(1)
    plan.record_failure(1, request_sent=True, unreachable=True)
    assert plan.next_step(0.0) is None
