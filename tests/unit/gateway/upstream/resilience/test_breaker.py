"""Breakers, told a history by the thousand: what they let through, when, and how they come back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.errors import (
    ClientGone,
    ConnectFailed,
    InvalidRequest,
    ModelNotFound,
    PenstockError,
    UpstreamCut,
    UpstreamStatus,
    UpstreamTimeout,
)
from penstock.domain.fleet import Model, Server, ServerStatus, State
from penstock.gateway.upstream.resilience.breaker import (
    CLOSED,
    HALF_OPEN,
    JITTER,
    NO_PERMITS,
    OPEN,
    Breaker,
    BreakerPolicy,
    Breakers,
    Guard,
)

POLICY = BreakerPolicy()
BUSY = UpstreamStatus("busy", status=503)


def guard(chance: float = 0.5) -> Guard:
    return Guard(Breaker(POLICY), Breaker(POLICY), lambda: chance)


def fail(here: Guard, now: float, error: PenstockError = BUSY, times: int = 1) -> None:
    for _ in range(times):
        permits = here.begin(now) if here.wary else NO_PERMITS
        here.failed(permits, error, now, answered=isinstance(error, UpstreamStatus | InvalidRequest | ModelNotFound))


def test_three_failures_in_a_row_open_the_models_breaker_and_not_the_servers():
    here = guard()
    fail(here, 0.0, times=2)
    assert here.allows(0.0)
    fail(here, 0.0)
    assert not here.allows(0.0)
    assert (here.server.state, here.model.state) == (CLOSED, OPEN)
    assert here.wait(0.0) == pytest.approx(1.0)


def test_a_good_call_between_failures_starts_the_count_anew():
    here = guard()
    fail(here, 0.0, times=2)
    here.well(NO_PERMITS, 0.0)
    fail(here, 0.0, times=2)
    assert here.allows(0.0)


def test_half_of_ten_calls_failing_opens_it_though_never_three_fail_in_a_row():
    here = guard()
    for _ in range(4):
        fail(here, 0.0)
        here.well(NO_PERMITS, 0.0)
    assert here.allows(0.0)
    here.well(NO_PERMITS, 0.0)
    fail(here, 0.0)
    assert not here.allows(0.0)


def test_failures_older_than_the_window_do_not_count():
    here = guard()
    for turn in range(20):
        fail(here, turn * 10.0)
        here.well(NO_PERMITS, turn * 10.0)
    assert here.allows(200.0)


def test_one_refused_connection_opens_the_servers_breaker_for_all_its_models():
    breakers = Breakers(lambda: 0.5)
    one, other = breakers.of("a", "m"), breakers.of("a", "n")
    fail(one, 0.0, ConnectFailed("refused"))
    assert not other.allows(0.0)
    assert other.server.dead
    assert other.model.state == CLOSED


@pytest.mark.parametrize("error", [UpstreamTimeout("slow"), UpstreamCut("cut")])
def test_silence_and_broken_answers_count_against_server_and_model(error: PenstockError):
    here = guard()
    fail(here, 0.0, error, times=3)
    assert (here.server.state, here.model.state) == (OPEN, OPEN)


@pytest.mark.parametrize("error", [ClientGone("gone"), InvalidRequest("mend it"), ModelNotFound("which?")])
def test_what_is_not_the_servers_fault_never_opens_anything(error: PenstockError):
    here = guard()
    fail(here, 0.0, error, times=50)
    assert here.healthy


@pytest.mark.parametrize(("told", "kept"), [(7.5, 7.5), (3600.0, POLICY.longest_told)])
def test_an_engines_retry_after_is_honoured_within_bounds(told: float, kept: float):
    here = guard()
    fail(here, 100.0, UpstreamStatus("slow down", status=429, retry_after=told))
    assert not here.allows(100.0 + kept - 0.01)
    assert here.allows(100.0 + kept)


def test_the_open_time_doubles_up_to_its_bound_and_a_good_trial_closes_it():
    here, now = guard(), 0.0
    fail(here, now, times=3)
    seen = []
    for _ in range(8):
        seen.append(here.wait(now))
        now += here.wait(now)
        fail(here, now)
    assert seen == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    now += here.wait(now)
    here.well(here.begin(now), now)
    assert here.healthy


def test_jitter_spreads_the_open_time_both_ways():
    waits = []
    for chance in (0.0, 0.999999):
        here = guard(chance)
        fail(here, 0.0, times=3)
        waits.append(here.wait(0.0))
    assert waits == pytest.approx([1 - JITTER, 1 + JITTER], abs=1e-4)


def test_a_server_that_takes_no_connection_is_asked_again_within_ten_seconds_however_long_it_is_dead():
    here, now = guard(0.999), 0.0
    for _ in range(20):
        fail(here, now, ConnectFailed("refused"))
        assert here.wait(now) < 10.0
        now += here.wait(now)


def test_only_one_trial_at_a_time_and_a_cancelled_one_gives_its_permit_back():
    here = guard()
    fail(here, 0.0, times=3)
    permits = here.begin(1.0)
    assert not here.allows(1.0)
    assert here.trying
    here.failed(permits, ClientGone("gone"), 1.0, answered=False)
    assert here.allows(1.0)
    assert here.model.state == HALF_OPEN


def test_a_trial_whose_answer_has_begun_need_not_have_ended():
    here, begun = guard(), [False]
    fail(here, 0.0, times=3)
    permits = here.begin(1.0, lambda: begun[0])
    assert not here.allows(2.0)
    begun[0] = True
    assert here.allows(2.0)
    assert here.model.state == CLOSED
    here.well(permits, 3.0)
    assert here.healthy


def test_what_calls_tell_that_began_before_it_opened_neither_closes_it_nor_opens_it_longer():
    here = guard()
    fail(here, 0.0, times=3)
    for _ in range(20):
        here.failed(NO_PERMITS, BUSY, 0.5, answered=True)
        here.well(NO_PERMITS, 0.5)
    assert here.wait(0.0) == pytest.approx(1.0)
    assert not here.allows(0.9)


def test_traffic_grows_over_ten_seconds_after_it_closed_and_one_failure_opens_it_again_for_longer():
    here = guard()
    fail(here, 0.0, times=3)
    here.well(here.begin(1.0), 1.0)
    assert here.share(1.0) == pytest.approx(0.1)
    assert here.share(6.0) == pytest.approx(0.5)
    fail(here, 6.0)
    assert here.share(6.0) == 0.0
    assert here.wait(6.0) == pytest.approx(2.0)
    here.well(here.begin(8.0), 8.0)
    assert here.share(18.0) == 1.0
    fail(here, 19.0, times=2)
    assert here.allows(19.0)


def status(state: State, at: float) -> ServerStatus:
    return ServerStatus(Server("a", "vllm", ("http://a",)), state, "http://a", (Model("m"),), checked_at=at)


def test_a_good_look_at_a_server_known_dead_lets_a_trial_through_at_once():
    breakers = Breakers(lambda: 0.5)
    here = breakers.of("a", "m")
    fail(here, 0.0, UpstreamCut("cut"), times=3)
    breakers.hear([status(State.DOWN, 0.1)], 0.0)
    assert not here.allows(0.2)
    breakers.hear([status(State.UP, 0.3)], 0.0)
    assert here.allows(0.3)
    here.begin(0.3)
    assert not here.allows(0.3)


def test_a_good_look_that_follows_a_refused_connection_lets_a_trial_through_at_once():
    breakers = Breakers(lambda: 0.5)
    here = breakers.of("a", "m")
    breakers.hear([status(State.UP, 0.0)], 0.0)
    fail(here, 1.0, ConnectFailed("refused"))
    breakers.hear([status(State.UP, 0.5)], 0.0)  # it began before
    assert not here.allows(1.1)
    breakers.hear([status(State.UP, 1.2)], 0.0)
    assert here.allows(1.2)


def test_a_good_look_says_nothing_of_a_model_that_answers_errors():
    breakers = Breakers(lambda: 0.5)
    here = breakers.of("a", "m")
    fail(here, 0.0, times=3)
    breakers.hear([status(State.DOWN, 0.1)], 0.0)
    breakers.hear([status(State.UP, 0.2)], 0.0)
    assert not here.allows(0.3)


def test_old_failures_are_forgotten_so_that_calls_need_not_be_told():
    breakers = Breakers(lambda: 0.5)
    here = breakers.of("a", "m")
    assert not here.wary
    fail(here, 0.0)
    here.well(NO_PERMITS, 1.0)
    breakers.hear([status(State.UP, 2.0)], 2.0)
    assert here.wary
    breakers.hear([status(State.UP, 31.0)], 31.0)
    assert not here.wary


def test_breakers_of_servers_that_are_gone_are_dropped_unless_something_speaks_against_them():
    breakers = Breakers(lambda: 0.5)
    breakers.of("a", "m")
    fail(breakers.of("a", "bad"), 0.0, times=3)
    breakers.of("b", "m")
    breakers.hear([], 0.0)
    assert set(breakers.states()) == {("a", ""), ("a", "bad")}


@dataclass
class World:
    """A server whose state is known, and calls that begin and end on it in any order."""

    here: Guard = field(default_factory=guard)
    now: float = 0.0
    running: list[tuple[tuple[int, int], bool]] = field(default_factory=list)  # permits, whether it is a trial

    @property
    def trials(self) -> int:
        return sum(trial for _, trial in self.running)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0.0)),
        st.tuples(st.sampled_from(["well", "busy", "silent", "refused", "gone", "told"]), st.floats(0, 0.999)),
        st.tuples(st.just("pass"), st.floats(0, 40)),
    ),
    max_size=60,
)
ENDS = {
    "busy": BUSY,
    "silent": UpstreamTimeout("slow"),
    "refused": ConnectFailed("refused"),
    "gone": ClientGone("gone"),
    "told": UpstreamStatus("later", status=429, retry_after=5.0),
}


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_one_trial_runs_at_most_and_a_breaker_always_opens_again_in_the_end(steps):
    world = World()
    here = world.here
    for what, how in steps:
        if what == "pass":
            world.now += how
        elif what == "begin":
            shut = here.server.state != CLOSED or here.model.state != CLOSED
            if here.allows(world.now):
                world.running.append((here.begin(world.now) if shut else NO_PERMITS, shut))
            else:
                assert here.trying or here.wait(world.now) > 0
        elif world.running:
            permits, _ = world.running.pop(int(how * len(world.running)))
            if what == "well":
                here.well(permits, world.now)
            else:
                here.failed(permits, ENDS[what], world.now, answered=what in ("busy", "told"))
        assert world.trials <= 1
        assert 0.0 <= here.share(world.now) <= 1.0
        assert here.wait(world.now) <= POLICY.longest_told
    for permits, _ in world.running:
        here.release(permits)
    world.now += POLICY.longest_told
    assert here.allows(world.now)  # no permit is left behind
    here.well(here.begin(world.now), world.now)
    assert here.healthy
    assert here.share(world.now + POLICY.slow_start + 0.01) == 1.0
