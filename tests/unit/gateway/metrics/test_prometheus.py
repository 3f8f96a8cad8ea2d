"""Prometheus' text format: readable by its grammar, and in agreement with the figures."""

import re

from hypothesis import given

from penstock.gateway.metrics.prometheus import Gauge
from tests.unit.gateway.metrics.finished_calls import CALLS, FinishedCall, meter_of


def parse_samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read the text format by its grammar; every line must be a comment or a sample."""
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


@given(CALLS)
def test_the_text_follows_the_format_and_agrees_with_the_figures(calls):
    found = parse_samples(meter_of(calls).render_prometheus())
    requests = [value for (name, _), value in found.items() if name == "penstock_requests_total"]
    assert sum(requests) == len(calls)
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
    calls = [FinishedCall("w", "m", "s", first_byte_seconds=0.25, total_seconds=0.32)]
    found = parse_samples(meter_of(calls).render_prometheus())
    labels = frozenset({("gen_ai_request_model", "m"), ("server", "s"), ("le", "0.25")})
    assert found["gen_ai_server_time_to_first_token_seconds_bucket", labels] == 1
    assert found["gen_ai_server_time_to_first_token_seconds_sum", labels - {("le", "0.25")}] == 0.25


def test_gauges_are_rendered_beside_the_counters():
    meter = meter_of([])
    meter.series_of("m", "a")["w"].count_retry()
    servers = Gauge("penstock_server_up", "Up.", (((("server", "a"),), 1.0), ((("server", "b"),), 0.0)))
    text = meter.render_prometheus([servers, Gauge("penstock_things_total", "Things.", (((), 7.0),))])
    found = parse_samples(text)
    assert found["penstock_server_up", frozenset({("server", "b")})] == 0
    assert found["penstock_retries_total", frozenset({("server", "a")})] == 1
    assert found["penstock_things_total", frozenset()] == 7
    assert b"# TYPE penstock_server_up gauge\n" in text
    assert b"# TYPE penstock_things_total counter\n" in text


def test_a_name_that_cannot_be_encoded_does_not_break_the_text():
    assert b"penstock_requests_total" in meter_of([FinishedCall(model="\ud800")]).render_prometheus()
