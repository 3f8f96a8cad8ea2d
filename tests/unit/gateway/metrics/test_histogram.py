"""Histograms: quantiles lie near the true values."""

import math

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.metrics.histogram import DURATION_BOUNDS, TOKEN_BOUNDS, TTFT_BOUNDS, Histogram
from tests.unit.gateway.metrics.finished_calls import SECONDS


@given(st.lists(SECONDS, min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    histogram = Histogram(DURATION_BOUNDS)
    histogram.observe_all(values)
    true = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    bounds = [0.0, *DURATION_BOUNDS]
    low = max(bound for bound in bounds if bound < true)
    high = min([bound for bound in bounds if bound >= true], default=bounds[-1])
    assert low <= histogram.quantile(share) <= high


def test_a_quantile_of_nothing_is_zero():
    assert Histogram(TTFT_BOUNDS).quantile(0.99) == 0.0


def test_the_last_bound_stands_for_values_beyond_it():
    histogram = Histogram(TOKEN_BOUNDS)
    histogram.observe_all([10**9])
    assert histogram.quantile(0.5) == TOKEN_BOUNDS[-1]


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_merged_histograms_count_the_values_of_both(first, second):
    merged, together = Histogram(DURATION_BOUNDS), Histogram(DURATION_BOUNDS)
    other = Histogram(DURATION_BOUNDS)
    merged.observe_all(first)
    other.observe_all(second)
    merged.merge(other)
    together.observe_all(first + second)
    assert merged.counts == together.counts
    assert merged.count == len(first) + len(second)
