"""Parsing of Retry-After."""

import pytest

from penstock.http1.retry_after import MAX_RETRY_AFTER, parse_retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b" 20 ", 20.0),
        (b"2.5", 2.5),
        (b"9" * 5000, MAX_RETRY_AFTER),
        (b"inf", None),
        (b"nan", None),
        (b"1e308", None),
        (b"-5", None),
        (b"1_000", None),
        (b"", None),
    ],
)
def test_a_number_of_seconds_is_bounded_and_anything_else_is_none(value: bytes, seconds: float | None):
    assert parse_retry_after(value) == seconds


def test_a_date_counts_from_the_servers_own_clock():
    date, later = b"Fri, 27 Nov 2026 10:00:00 GMT", b"Fri, 27 Nov 2026 10:00:30 GMT"
    assert parse_retry_after(later, date) == 30.0
    assert parse_retry_after(date, later) == 0.0
    assert parse_retry_after(b"Fri, 27 Nov 2999 10:00:00 GMT", date) == MAX_RETRY_AFTER
