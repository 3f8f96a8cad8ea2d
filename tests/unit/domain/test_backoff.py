"""Exponential backoff, and its jitter."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.backoff import backoff_delay, retry_delay


def test_the_delay_doubles_up_to_its_maximum():
    assert [backoff_delay(n, 1.0, 30.0) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 10**6))
def test_the_delay_stays_finite_however_many_failures_there_are(failures: int):
    assert 0 < backoff_delay(failures, 1.0, 30.0) <= 30.0


@given(st.integers(1, 50), st.floats(0, 0.999999))
def test_a_retry_waits_anything_up_to_a_bound_that_doubles(retry: int, random: float):
    assert 0 <= retry_delay(retry, random) <= min(1.0, 0.05 * 2 ** (retry - 1))
