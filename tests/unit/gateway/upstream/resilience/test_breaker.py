"""Circuit breakers under thousands of histories: permitted calls, open times, and closing."""

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
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
from penstock.domain.fault import Fault
from penstock.gateway.upstream.blame.verdict import judge_failure
from penstock.gateway.upstream.resilience.breaker import (
    CLOSED,
    HALF_OPEN,
    JITTER,
    NO_PERMITS,
    OPEN,
    Breaker,
    BreakerPair,
    BreakerPolicy,
)
from tests.support.breakers import count_failure

POLICY = BreakerPolicy()
FULL = UpstreamStatus("server busy, please try again.  maximum pending requests exceeded", status=503)
BROKEN = UpstreamStatus("broken", status=500)


def make_pair(jitter: float = 0.5) -> BreakerPair:
    return BreakerPair(Breaker(POLICY), Breaker(POLICY), lambda: jitter)


def record_failures(pair: BreakerPair, now: float, error: PenstockError = BROKEN, times: int = 1) -> None:
    for _ in range(times):
        permits = pair.acquire(now) if pair.is_tracking else NO_PERMITS
        answered = isinstance(error, UpstreamStatus | InvalidRequest | ModelNotFound)
        count_failure(pair, permits, error, now, answered)


def test_three_failures_in_a_row_open_the_models_breaker_and_not_the_servers():
    pair = make_pair()
    record_failures(pair, 0.0, times=2)
    assert pair.allows(0.0)
    record_failures(pair, 0.0)
    assert not pair.allows(0.0)
    assert (pair.server.state, pair.model.state) == (CLOSED, OPEN)
    assert pair.seconds_until_allowed(0.0) == pytest.approx(1.0)


def test_a_success_between_failures_resets_the_streak():
    pair = make_pair()
    record_failures(pair, 0.0, times=2)
    pair.record_success(NO_PERMITS, 0.0)
    record_failures(pair, 0.0, times=2)
    assert pair.allows(0.0)


def test_it_opens_when_half_of_ten_calls_fail_though_never_three_in_a_row():
    pair = make_pair()
    for _ in range(4):
        record_failures(pair, 0.0)
        pair.record_success(NO_PERMITS, 0.0)
    assert pair.allows(0.0)
    pair.record_success(NO_PERMITS, 0.0)
    record_failures(pair, 0.0)
    assert not pair.allows(0.0)


def test_failures_older_than_the_window_do_not_count():
    pair = make_pair()
    for turn in range(20):
        record_failures(pair, turn * 10.0)
        pair.record_success(NO_PERMITS, turn * 10.0)
    assert pair.allows(200.0)


@pytest.mark.parametrize("error", [UpstreamTimeout("slow"), UpstreamCut("cut")])
def test_timeouts_and_cut_responses_count_against_server_and_model(error: PenstockError):
    pair = make_pair()
    record_failures(pair, 0.0, error, times=3)
    assert (pair.server.state, pair.model.state) == (OPEN, OPEN)


@pytest.mark.parametrize("error", [ClientGone("gone"), InvalidRequest("mend it"), ModelNotFound("which?"), FULL])
def test_errors_that_are_not_the_servers_fault_never_open_a_breaker(error: PenstockError):
    pair = make_pair()
    record_failures(pair, 0.0, error, times=50)
    assert pair.is_healthy


@pytest.mark.parametrize(("requested", "kept"), [(7.5, 7.5), (3600.0, POLICY.max_retry_after)])
def test_an_engines_retry_after_is_honoured_within_bounds(requested: float, kept: float):
    pair = make_pair()
    record_failures(pair, 100.0, UpstreamStatus("slow down", status=429, retry_after=requested))
    assert not pair.allows(100.0 + kept - 0.01)
    assert pair.allows(100.0 + kept)


def test_the_open_time_doubles_up_to_its_bound_and_a_successful_probe_closes_it():
    pair, now = make_pair(), 0.0
    record_failures(pair, now, times=3)
    seen = []
    for _ in range(8):
        seen.append(pair.seconds_until_allowed(now))
        now += pair.seconds_until_allowed(now)
        record_failures(pair, now)
    assert seen == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    now += pair.seconds_until_allowed(now)
    pair.record_success(pair.acquire(now), now)
    assert pair.is_healthy


def test_jitter_spreads_the_open_time_both_ways():
    waits = []
    for jitter in (0.0, 0.999999):
        pair = make_pair(jitter)
        record_failures(pair, 0.0, times=3)
        waits.append(pair.seconds_until_allowed(0.0))
    assert waits == pytest.approx([1 - JITTER, 1 + JITTER], abs=1e-4)


def test_an_unreachable_server_is_probed_every_ten_seconds_however_long_it_is_away():
    pair, now = make_pair(0.999), 0.0
    for _ in range(20):
        record_failures(pair, now, ConnectFailed("refused"))
        assert pair.seconds_until_allowed(now) < 10.0
        now += pair.seconds_until_allowed(now)


def test_one_probe_runs_at_a_time_and_a_cancelled_one_returns_its_permit():
    pair = make_pair()
    record_failures(pair, 0.0, times=3)
    permits = pair.acquire(1.0)
    assert not pair.allows(1.0)
    assert pair.is_blocked_by_probe(1.0)
    count_failure(pair, permits, ClientGone("gone"), 1.0, answered=False)
    assert pair.allows(1.0)
    assert pair.model.state == HALF_OPEN


def test_a_probe_succeeds_when_its_response_starts():
    pair, started = make_pair(), [False]
    record_failures(pair, 0.0, times=3)
    permits = pair.acquire(1.0, lambda: started[0])
    assert not pair.allows(2.0)
    started[0] = True
    assert pair.allows(2.0)
    assert pair.model.state == CLOSED
    pair.record_success(permits, 3.0)
    assert pair.is_healthy


def test_results_of_calls_from_before_it_opened_change_nothing():
    pair = make_pair()
    record_failures(pair, 0.0, times=3)
    for _ in range(20):
        count_failure(pair, NO_PERMITS, BROKEN, 0.5, answered=True)
        pair.record_success(NO_PERMITS, 0.5)
    assert pair.seconds_until_allowed(0.0) == pytest.approx(1.0)
    assert not pair.allows(0.9)


def test_traffic_grows_for_ten_seconds_and_one_failure_then_opens_it_for_longer():
    pair = make_pair()
    record_failures(pair, 0.0, times=3)
    pair.record_success(pair.acquire(1.0), 1.0)
    assert pair.traffic_share(1.0) == pytest.approx(0.1)
    assert pair.traffic_share(6.0) == pytest.approx(0.5)
    record_failures(pair, 6.0)
    assert pair.traffic_share(6.0) == 0.0
    assert pair.seconds_until_allowed(6.0) == pytest.approx(2.0)
    pair.record_success(pair.acquire(8.0), 8.0)
    assert pair.traffic_share(18.0) == 1.0
    record_failures(pair, 19.0, times=2)
    assert pair.allows(19.0)


def test_the_success_of_a_call_beside_the_probe_closes_it_too():
    pair = make_pair()
    record_failures(pair, 0.0, times=3)
    beside = pair.acquire(0.5)  # let through because no other server was left
    assert (pair.model.state, pair.is_blocked_by_probe(0.5)) == (OPEN, False)
    probe = pair.acquire(2.0)
    pair.record_success(beside, 2.1)
    assert pair.model.state == CLOSED
    pair.release(probe)
    assert pair.is_healthy


def test_a_failure_beside_the_probe_neither_ends_it_nor_opens_for_longer():
    pair = make_pair()
    record_failures(pair, 0.0, times=3)
    probe, beside = pair.acquire(1.5), pair.acquire(1.5)
    count_failure(pair, beside, BROKEN, 1.6, answered=True)
    assert pair.is_blocked_by_probe(1.6)
    pair.record_success(probe, 1.7)
    assert pair.model.state == CLOSED


@pytest.mark.parametrize("error", [BROKEN, UpstreamCut("cut")])
def test_a_refund_takes_back_a_failure_and_the_opening_that_followed(error: PenstockError):
    pair = make_pair()
    fault = judge_failure(error, answered=error is BROKEN)
    record_failures(pair, 0.0, error, times=2)
    record_failures(pair, 1.0, error)
    assert not pair.allows(1.0)
    pair.refund(1.0, fault)
    assert pair.allows(1.0)
    record_failures(pair, 2.0, error)
    assert not pair.allows(2.0)


@given(st.integers(1, 8), st.data())
def test_refunds_of_all_failures_leave_a_breaker_as_if_nothing_had_been(failures: int, data: st.DataObject):
    pair = make_pair()
    for number in range(failures):
        record_failures(pair, float(number), BROKEN)
        if data.draw(st.booleans()):
            pair.record_success(NO_PERMITS, number + 0.5)
        pair.refund(float(number), Fault.MODEL)
    assert pair.is_healthy
    assert pair.allows(float(failures))


@dataclass
class World:
    """A server whose state is known, and calls that begin and end on it in any order."""

    pair: BreakerPair = field(default_factory=make_pair)
    now: float = 0.0
    running: list[tuple[tuple[int, int], bool]] = field(default_factory=list)  # permits, whether it is a trial

    @property
    def trials(self) -> int:
        return sum(trial for _, trial in self.running)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0.0)),
        st.tuples(
            st.sampled_from(["well", "busy", "silent", "refused", "gone", "limited", "full"]), st.floats(0, 0.999)
        ),
        st.tuples(st.just("pass"), st.floats(0, 40)),
    ),
    max_size=60,
)
ENDS = {
    "busy": BROKEN,
    "silent": UpstreamTimeout("slow"),
    "refused": ConnectFailed("refused"),
    "gone": ClientGone("gone"),
    "limited": UpstreamStatus("later", status=429, retry_after=5.0),
    "full": UpstreamStatus("server busy", status=503),
}


@settings(max_examples=200, deadline=None)
@given(STEPS)
@example(
    [
        ("begin", 0.0),
        ("begin", 0.0),
        ("limited", 0.0),
        ("pass", 5.0),
        ("begin", 0.0),
        ("refused", 0.0),
        ("pass", 1.0),
        ("begin", 0.0),
    ]
)  # the server's open time has passed while the model's probe is in flight
def test_at_most_one_probe_runs_and_a_breaker_always_closes_in_the_end(steps):
    world = World()
    pair = world.pair
    for what, how in steps:
        if what == "pass":
            world.now += how
        elif what == "begin":
            shut = pair.server.state != CLOSED or pair.model.state != CLOSED
            if pair.allows(world.now):
                world.running.append((pair.acquire(world.now) if shut else NO_PERMITS, shut))
            else:
                assert pair.is_blocked_by_probe(world.now) or pair.seconds_until_allowed(world.now) > 0
        elif world.running:
            permits, _ = world.running.pop(int(how * len(world.running)))
            if what == "well":
                pair.record_success(permits, world.now)
            else:
                count_failure(pair, permits, ENDS[what], world.now, answered=what in ("busy", "limited", "full"))
        assert world.trials <= 1
        assert 0.0 <= pair.traffic_share(world.now) <= 1.0
        assert pair.seconds_until_allowed(world.now) <= POLICY.max_retry_after
    for permits, _ in world.running:
        pair.release(permits)
    world.now += POLICY.max_retry_after
    assert pair.allows(world.now)  # no permit is left behind
    pair.record_success(pair.acquire(world.now), world.now)
    assert pair.is_healthy
    assert pair.traffic_share(world.now + POLICY.slow_start + 0.01) == 1.0
