"""The retry budget, and with breakers: what a fleet in trouble is spared, and what one good server is enough for."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.errors import ConnectFailed, PenstockError, UpstreamCut, UpstreamStatus
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS, Breaker, BreakerPolicy, Breakers, Guard
from penstock.gateway.upstream.resilience.retry_budget import MINIMUM, RATIO, WINDOW, RetryBudget, back_off
from penstock.gateway.upstream.resilience.retry_plan import Course, Step


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 200), st.integers(0, 60)), max_size=30))
def test_retries_are_never_more_than_a_fifth_of_the_calls_and_a_small_minimum(turns):
    budget, now, calls, taken = RetryBudget(0.0), 0.0, 0, 0
    for passed, came, wanted in turns:
        now += passed
        calls += came
        budget.calls += came
        taken += sum(budget.take(now) for _ in range(wanted))
        assert taken <= RATIO * calls + MINIMUM * (1 + now / WINDOW) + 1e-6
    assert budget.taken == taken


def test_a_quiet_gateway_can_retry_and_a_busy_hour_saves_nothing_up():
    budget = RetryBudget(0.0)
    assert sum(budget.take(0.0) for _ in range(100)) == MINIMUM
    budget.calls += 3_600_000  # a thousand a second
    assert sum(budget.take(3600.0) for _ in range(100_000)) == pytest.approx(MINIMUM + RATIO * 1000 * WINDOW, abs=1)


def test_a_fifth_of_steady_traffic_may_be_retried_for_ever():
    budget, taken = RetryBudget(0.0, minimum=0.0), 0
    for call in range(10_000):
        budget.calls += 1
        taken += budget.take(call / 100)
    assert taken == pytest.approx(2000, rel=0.01)


@given(st.integers(1, 50), st.floats(0, 0.999999))
def test_back_off_is_anything_up_to_a_bound_that_doubles(again: int, chance: float):
    assert 0 <= back_off(again, chance) <= min(1.0, 0.05 * 2 ** (again - 1))


ERRORS: tuple[PenstockError, ...] = (
    ConnectFailed("refused"),
    UpstreamCut("cut"),
    UpstreamStatus("busy", status=503),
    UpstreamStatus("slow down", status=429, retry_after=1.0),
)


@dataclass
class Fleet:
    """Servers that fail with their own chances; `rates` by place."""

    rates: list[float]
    dice: random.Random
    guards: list[Guard] = field(init=False)
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.0))
    now: float = 0.0
    tries: int = 0
    sent: int = 0
    refused_by_breakers: int = 0

    def __post_init__(self) -> None:
        policy = BreakerPolicy()
        self.guards = [Guard(Breaker(policy), Breaker(policy), self.dice.random) for _ in self.rates]

    def call(self) -> bool:
        """One call, its candidates in any order; whether somebody answered."""
        self.budget.calls += 1
        order = self.dice.sample(range(len(self.rates)), len(self.rates))
        course = Course(len(order), lambda place: self.guards[order[place]], self.budget, self.dice.random)
        while (step := course.next(self.now)) is not None:
            if self.one(order[step.place], course, step):
                return True
        self.refused_by_breakers += len(course.shut)
        return False

    def one(self, server: int, course: Course, step: Step) -> bool:
        guard = self.guards[server]
        permits = guard.begin(self.now) if guard.wary else NO_PERMITS
        self.tries += 1
        self.now += step.wait
        if self.dice.random() >= self.rates[server]:
            self.sent += 1
            guard.well(permits, self.now)
            return True
        error = self.dice.choice(ERRORS)
        sent = not isinstance(error, ConnectFailed)
        self.sent += sent
        guard.failed(permits, error, self.now, answered=isinstance(error, UpstreamStatus))
        course.failed(step.place, sent, busy=isinstance(error, UpstreamStatus))
        return False


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6),
    st.sampled_from([0.001, 0.02, 0.3, 3.0]),
    st.integers(0, 2**32),
)
def test_with_one_good_server_left_every_call_is_answered_however_the_others_fail(rates, gap, seed):
    fleet = Fleet([*rates, 0.0], random.Random(seed))
    for _ in range(300):
        assert fleet.call()
        fleet.now += gap
    # within the budget, but for steps to servers in good standing, of which breakers leave few
    assert fleet.budget.calls == 300


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.sampled_from([0.001, 0.02, 0.3]), st.integers(0, 2**32))
def test_where_everything_fails_little_more_is_sent_than_was_asked(servers, gap, seed):
    fleet = Fleet([1.0] * servers, random.Random(seed))
    for _ in range(400):
        assert not fleet.call()
        fleet.now += gap
    # each server's good standing ends with its first failure, and with each time that it is brought back
    assert fleet.sent <= 400 * (1 + RATIO) + MINIMUM * (1 + fleet.now / WINDOW) + servers


def test_breakers_make_failing_servers_cost_a_few_tries_in_a_thousand_calls():
    fleet = Fleet([1.0, 1.0, 0.0], random.Random(7))
    for _ in range(1000):
        assert fleet.call()
        fleet.now += 0.01
    assert fleet.tries - 1000 < 40


def guards(count: int) -> list[Guard]:
    return [Guard(Breaker(BreakerPolicy()), Breaker(BreakerPolicy()), lambda: 0.5) for _ in range(count)]


def test_a_busy_server_is_asked_once_more_after_a_moment_and_only_once():
    [guard], budget = guards(1), RetryBudget(0.0)
    course = Course(1, lambda _: guard, budget, lambda: 0.5)
    assert course.next(0.0) == Step(0)
    guard.failed(NO_PERMITS, UpstreamStatus("busy", status=503), 0.0, answered=True)
    course.failed(0, sent=True, busy=True)
    again = course.next(0.0)
    assert again == Step(0, 0.025)
    guard.failed(NO_PERMITS, UpstreamStatus("busy", status=503), 0.0, answered=True)
    course.failed(0, sent=True, busy=True)
    assert course.next(0.0) is None


def test_a_server_that_asked_to_be_left_alone_is_left_alone():
    [guard], budget = guards(1), RetryBudget(0.0)
    course = Course(1, lambda _: guard, budget, lambda: 0.5)
    course.next(0.0)
    guard.failed(NO_PERMITS, UpstreamStatus("busy", status=503, retry_after=1.0), 0.0, answered=True)
    course.failed(0, sent=True, busy=True)
    assert course.next(0.0) is None


def test_without_budget_a_doubtful_server_is_passed_over_for_a_healthy_one():
    doubtful, healthy, first = guards(3)
    doubtful.failed(NO_PERMITS, UpstreamCut("cut"), 0.0, answered=False)
    budget = RetryBudget(0.0, minimum=0.0)
    row = [first, doubtful, healthy]
    course = Course(3, row.__getitem__, budget, lambda: 0.5)
    assert course.next(0.0) == Step(0)
    course.failed(0, sent=True)
    assert course.next(0.0) == Step(2)


def test_when_nobody_else_can_a_server_on_trial_is_asked_beside_its_trial():
    [guard], budget = guards(1), RetryBudget(0.0)
    for _ in range(3):
        guard.failed(NO_PERMITS, UpstreamCut("cut"), 0.0, answered=False)
    assert Course(1, lambda _: guard, budget, lambda: 0.5).next(0.5) is None
    guard.begin(2.0)
    course = Course(1, lambda _: guard, budget, lambda: 0.5)
    assert course.next(2.0) == Step(0)
    course.failed(0, sent=True)
    assert course.next(2.0) is None


def test_a_server_that_was_not_to_be_reached_is_asked_for_another_model_last_of_all():
    breakers = Breakers(lambda: 0.5)
    guards = [breakers.of("hung", "big"), breakers.of("hung", "other"), breakers.of("well", "small")]
    course = Course(3, guards.__getitem__, RetryBudget(0.0), lambda: 0.5)
    assert course.next(0.0) == Step(0)
    course.failed(0, sent=True, deaf=True)
    assert course.next(0.0) == Step(2)
    course.failed(2, sent=True)
    assert course.next(0.0) == Step(1)
    course.failed(1, sent=True, deaf=True)
    assert course.next(0.0) is None
