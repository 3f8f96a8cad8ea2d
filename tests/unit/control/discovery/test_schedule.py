"""Schedule of probes."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.schedule import MAX_RETRY_INTERVAL, ProbeSchedule


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.999)), max_size=60))
def test_the_gap_between_probes_doubles_with_each_failure_within_its_bounds(probes):
    schedule, now, failures = ProbeSchedule(interval=30.0, first_retry=1.0), 0.0, 0
    for succeeded, random in probes:
        schedule.start_probe(now)
        schedule.finish_probe(now, succeeded, random)
        failures = 0 if succeeded else failures + 1
        planned = 30.0 if succeeded else min(MAX_RETRY_INTERVAL, 2.0 ** (failures - 1))
        assert planned * 0.899 <= schedule.next_at - now <= planned * 1.101
        now = schedule.next_at


@given(st.lists(st.floats(0.001, 0.4), min_size=1, max_size=100))
def test_many_failed_calls_cost_one_probe_a_second(gaps):
    schedule, now, probes = ProbeSchedule(), 0.0, []
    schedule.start_probe(now)
    schedule.finish_probe(now, True, 0.5)
    for gap in gaps:
        now += gap
        schedule.request_probe(now)
        if now >= schedule.next_at:
            probes.append(now)
            schedule.start_probe(now)
            schedule.finish_probe(now, True, 0.5)
    assert all(later - sooner >= 1.0 for sooner, later in zip([0.0, *probes], probes, strict=False))
    assert len(probes) >= int(now / 1.5)


def test_a_request_during_a_probe_causes_another_one_soon_after_it():
    schedule = ProbeSchedule()
    schedule.start_probe(10.0)
    assert not schedule.request_probe(10.1)
    schedule.finish_probe(10.2, True, 0.5)
    assert schedule.next_at == 11.0


def test_a_request_never_delays_a_probe_that_is_due_sooner():
    schedule = ProbeSchedule(first_retry=0.1)
    schedule.start_probe(10.0)
    schedule.finish_probe(10.0, False, 0.5)
    assert not schedule.request_probe(10.01)
    assert schedule.next_at == 10.1


def test_an_urgent_probe_does_not_wait_for_the_gap():
    schedule = ProbeSchedule()
    schedule.start_probe(10.0)
    schedule.finish_probe(10.1, True, 0.5)
    assert schedule.request_probe(10.2, is_urgent=True)
    assert schedule.next_at == 10.2


def test_an_urgent_request_during_a_probe_causes_another_one_right_after_it():
    schedule = ProbeSchedule()
    schedule.start_probe(10.0)
    schedule.request_probe(10.1, is_urgent=True)
    schedule.finish_probe(10.2, True, 0.5)
    assert schedule.next_at == 10.2
    schedule.start_probe(10.2)
    assert not schedule.is_urgent
