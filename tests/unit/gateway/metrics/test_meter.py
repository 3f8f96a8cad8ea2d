"""The meter: series are resolved once, and their number is bounded."""

from penstock.gateway.metrics.meter import MAX_SERIES, Meter
from penstock.gateway.metrics.series import BATCH_SIZE, MAX_CODES, OTHER
from tests.unit.gateway.metrics.finished_calls import FinishedCall, meter_of
from tests.unit.gateway.metrics.test_prometheus import parse_samples


def test_labels_are_bounded_however_many_names_callers_invent():
    meter = meter_of(FinishedCall(model=f"m{n}", server="s") for n in range(MAX_SERIES * 2))
    for n in range(MAX_CODES * 2):
        FinishedCall(model="m1", server="s", code=f"c{n}").record(meter)
    for n in range(MAX_SERIES * 2):
        meter.series_of(f"m{n}", "s")["w"].count_retry()
    snapshot = meter.take_snapshot(0.0)
    assert len(snapshot.models) == MAX_SERIES + 1
    assert len(snapshot.codes) == MAX_CODES + 2
    assert snapshot.all.requests == MAX_SERIES * 2 + MAX_CODES * 2
    assert next(total.requests for total in snapshot.models if total.name == OTHER) == MAX_SERIES
    assert len(parse_samples(meter.render_prometheus())) < MAX_SERIES * 120
    assert snapshot.retries == MAX_SERIES * 2


def test_a_series_that_is_resolved_again_is_the_same():
    meter = Meter()
    series = meter.series_of("m", "s")
    assert series["w"] is series["w"] is meter.series_of("m", "s")["w"]
    assert series["w"] is not series["v"]


def test_a_series_without_calls_is_not_listed():
    meter = Meter()
    meter.series_of("m", "s")
    assert meter.take_snapshot(0.0).models == ()


def test_calls_are_counted_once_across_batches_and_snapshots():
    meter = Meter()
    for n in range(1, BATCH_SIZE * 2 + 2):
        FinishedCall(model="m", total_seconds=1.0).record(meter)
        if n % 100 == 0:
            assert meter.take_snapshot(0.0).all.requests == n
    assert meter.take_snapshot(1.0).last_minute.requests == BATCH_SIZE * 2 + 1
