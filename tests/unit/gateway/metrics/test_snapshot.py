"""Figures for `/stats`: counts add up, and percentiles rise."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.metrics.series import CLIENT_GONE
from tests.unit.gateway.metrics.finished_calls import CALLS, SECONDS, FinishedCall, meter_of


@given(CALLS)
def test_the_figures_add_up_to_the_calls(calls):
    snapshot = meter_of(calls).take_snapshot(0.0)
    successes = [call for call in calls if call.code == "ok" and not call.client_gone]
    assert snapshot.all.requests == len(calls)
    assert snapshot.all.disconnects == sum(call.client_gone for call in calls)
    assert snapshot.all.errors == sum(call.code != "ok" and not call.client_gone for call in calls)
    assert snapshot.all.streamed == sum(call.is_streamed for call in calls)
    assert snapshot.all.fallbacks == sum(call.is_fallback for call in calls)
    assert snapshot.all.latency.count == len(successes)
    assert snapshot.all.ttft.count == sum(call.first_byte_seconds > 0 for call in successes)
    assert snapshot.all.prompt_tokens == sum(call.prompt_tokens for call in calls)
    assert snapshot.all.completion_tokens == sum(call.completion_tokens for call in calls)
    assert sum(snapshot.codes.values()) == sum(snapshot.wires.values()) == len(calls)
    for totals, label in ((snapshot.models, "model"), (snapshot.servers, "server")):
        expected = Counter(getattr(call, label) for call in calls if getattr(call, label))
        assert {total.name: total.requests for total in totals} == expected


@given(st.lists(SECONDS, max_size=100))
def test_percentiles_rise(durations):
    latency = meter_of(FinishedCall(total_seconds=value) for value in durations).take_snapshot(0.0).all.latency
    assert 0.0 <= latency.p50 <= latency.p90 <= latency.p95 <= latency.p99


def test_a_client_that_hangs_up_is_not_an_error():
    calls = [FinishedCall(code="upstream_error", client_gone=True, total_seconds=1.0)]
    snapshot = meter_of(calls).take_snapshot(0.0)
    assert (snapshot.all.errors, snapshot.all.disconnects, snapshot.codes) == (0, 1, {CLIENT_GONE: 1})


def test_the_last_minute_counts_calls_by_when_they_ended():
    calls = [
        FinishedCall(started_at=0.0, total_seconds=30.0, prompt_tokens=1),
        FinishedCall(started_at=0.0, total_seconds=100.0, prompt_tokens=2, completion_tokens=3, code="no_server"),
    ]
    last_minute = meter_of(calls).take_snapshot(100.0).last_minute
    assert (last_minute.requests, last_minute.errors, last_minute.tokens) == (1, 1, 5)
