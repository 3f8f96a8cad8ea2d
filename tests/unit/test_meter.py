"""What calls have come to: counts that add up, percentiles near the truth, a text format that Prometheus reads."""

import math
import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.metrics.histogram import DURATION_BOUNDS, TOKEN_BOUNDS, TTFT_BOUNDS, Histogram
from penstock.gateway.metrics.meter import GONE, MOST_CODES, MOST_SERIES, OTHER, Gauge, Meter, Record

SECONDS = st.floats(0.0001, 600.0)
RECORDS = st.lists(
    st.builds(
        Record,
        wire=st.sampled_from(["openai.chat", "ollama.chat", "anthropic.messages"]),
        model=st.sampled_from(["", "m1", "m2", 'odd"\\\n name']),
        server=st.sampled_from(["", "a", "b"]),
        code=st.sampled_from(["ok", "ok", "upstream_error", "no_server"]),
        streamed=st.booleans(),
        prompt_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
        ttft=st.one_of(st.just(0.0), SECONDS),
        total=SECONDS,
        fallback=st.booleans(),
        gone=st.booleans(),
        started_at=st.floats(0, 1000),
    ),
    max_size=60,
)


def settled(records, **more) -> Meter:
    meter = Meter(**more)
    for record in records:
        meter.settle(record)
    return meter


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read Prometheus' text format by its grammar; every line must be a comment or a sample."""
    found = {}
    for line in text.decode().rstrip("\n").split("\n"):
        if re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line):
            continue
        match = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)', line)
        assert match, line
        labels = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")
        key = (match[1], frozenset(labels))
        assert key not in found, line
        found[key] = float(match[3])
    return found


@given(RECORDS)
def test_the_figures_add_up_to_the_calls(records):
    snapshot = settled(records).snapshot(0.0)
    fine = [r for r in records if r.code == "ok" and not r.gone]
    assert snapshot.all.requests == len(records)
    assert snapshot.all.gone == sum(r.gone for r in records)
    assert snapshot.all.errors == sum(r.code != "ok" and not r.gone for r in records)
    assert snapshot.all.latency.count == len(fine)
    assert snapshot.all.ttft.count == sum(r.ttft > 0 for r in fine)
    assert snapshot.all.prompt_tokens == sum(r.prompt_tokens for r in records)
    assert snapshot.all.completion_tokens == sum(r.completion_tokens for r in records)
    assert sum(snapshot.codes.values()) == sum(snapshot.wires.values()) == len(records)
    for part, named in ((snapshot.models, "model"), (snapshot.servers, "server")):
        expected = Counter(getattr(r, named) for r in records if getattr(r, named))
        assert {t.name: t.requests for t in part} == expected


@given(st.lists(SECONDS, min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(values, share):
    histogram = Histogram(DURATION_BOUNDS)
    for value in values:
        histogram.observe(value)
    true = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    bounds = [0.0, *DURATION_BOUNDS]
    low = max(bound for bound in bounds if bound < true)
    high = min([bound for bound in bounds if bound >= true], default=bounds[-1])
    assert low <= histogram.quantile(share) <= high


@given(st.lists(SECONDS, max_size=100))
def test_percentiles_rise(values):
    totals = settled([Record("w", total=value) for value in values]).snapshot(0.0).all.latency
    assert 0.0 <= totals.p50 <= totals.p90 <= totals.p95 <= totals.p99


def test_a_percentile_of_nothing_is_nothing():
    assert Histogram(TTFT_BOUNDS).quantile(0.99) == 0.0


def test_beyond_the_last_bound_the_last_bound_is_told():
    histogram = Histogram(TOKEN_BOUNDS)
    histogram.observe(10**9)
    assert histogram.quantile(0.5) == TOKEN_BOUNDS[-1]


@given(RECORDS)
def test_the_exposition_follows_the_text_format_and_agrees_with_the_figures(records):
    meter = settled(records)
    found = samples(meter.exposition())
    requests = [value for (name, _), value in found.items() if name == "penstock_requests_total"]
    assert sum(requests) == len(records)
    for name in ("gen_ai_server_request_duration_seconds", "gen_ai_client_token_usage"):
        for (sample, labels), value in found.items():
            if sample == f"{name}_count":
                assert found[f"{name}_bucket", labels | {("le", "+Inf")}] == value
                buckets = sorted(
                    (float(dict(key)["le"].replace("+Inf", "inf")), count)
                    for (other, key), count in found.items()
                    if other == f"{name}_bucket" and labels < key
                )
                assert [count for _, count in buckets] == sorted(count for _, count in buckets)


def test_a_value_on_a_bound_counts_below_it():
    found = samples(settled([Record("w", "d", "m", "s", ttft=0.25, total=0.32)]).exposition())
    labels = frozenset({("gen_ai_request_model", "m"), ("server", "s"), ("le", "0.25")})
    assert found["gen_ai_server_time_to_first_token_seconds_bucket", labels] == 1
    assert found["gen_ai_server_time_to_first_token_seconds_sum", labels - {("le", "0.25")}] == 0.25


def test_labels_are_bounded_however_many_names_callers_invent():
    meter = settled(Record("w", model=f"m{n}", server="s") for n in range(MOST_SERIES * 2))
    for n in range(MOST_CODES * 2):
        meter.settle(Record("w", model="m1", server="s", code=f"c{n}"))
    for n in range(MOST_SERIES * 2):
        meter.retry(f"s{n}")
    snapshot = meter.snapshot(0.0)
    assert len(snapshot.models) == MOST_SERIES + 1
    assert len(snapshot.codes) == MOST_CODES + 2
    assert snapshot.all.requests == MOST_SERIES * 2 + MOST_CODES * 2
    assert next(t.requests for t in snapshot.models if t.name == OTHER) == MOST_SERIES
    assert len(samples(meter.exposition())) < MOST_SERIES * 120
    assert snapshot.retries == MOST_SERIES * 2


def test_a_client_that_hangs_up_is_nobodys_error():
    snapshot = settled([Record("w", code="upstream_error", gone=True, total=1.0)]).snapshot(0.0)
    assert (snapshot.all.errors, snapshot.all.gone, snapshot.codes) == (0, 1, {GONE: 1})


def test_the_journal_keeps_the_last_calls_only():
    meter = settled((Record("w", started_at=float(n)) for n in range(50)), journal=10)
    assert [record.started_at for record in meter.journal] == [float(n) for n in range(40, 50)]


def test_the_last_minute_is_told_by_when_calls_ended():
    records = [
        Record("w", started_at=0.0, total=30.0, prompt_tokens=1),
        Record("w", started_at=0.0, total=100.0, prompt_tokens=2, completion_tokens=3, code="no_server"),
    ]
    snapshot = settled(records).snapshot(100.0)
    assert (snapshot.last_minute_requests, snapshot.last_minute_errors, snapshot.last_minute_tokens) == (1, 1, 5)


def test_gauges_are_read_when_asked_for():
    up = {"a": 1.0}
    meter = Meter(
        sources=[lambda: [Gauge("penstock_server_up", "Up.", tuple(((("server", s),), v) for s, v in up.items()))]]
    )
    meter.retry("a")
    up["b"] = 0.0
    text = meter.exposition([Gauge("penstock_things_total", "Things.", (((), 7.0),))])
    found = samples(text)
    assert found["penstock_server_up", frozenset({("server", "b")})] == 0
    assert found["penstock_retries_total", frozenset({("server", "a")})] == 1
    assert found["penstock_things_total", frozenset()] == 7
    assert b"# TYPE penstock_server_up gauge\n" in text
    assert b"# TYPE penstock_things_total counter\n" in text


def test_a_name_that_is_no_text_does_not_break_the_exposition():
    assert b"penstock_requests_total" in settled([Record("w", model="\ud800")]).exposition()
