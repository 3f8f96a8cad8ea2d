"""The Retry-After header of RFC 9110 (10.2.3)."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A longer wait is as good as this one."""
_SECONDS = re.compile(rb"[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: bytes, server_date: bytes = b"") -> float | None:
    """Return the seconds to wait, from 0 to MAX_RETRY_AFTER; None for anything that is neither seconds nor a date.

    A date is compared with `server_date`, the response's Date header, or with this machine's clock if there is none.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    date = _parse_date(value)
    if date is None:
        return None
    now = _parse_date(server_date) or datetime.now(UTC)
    return min(max(0.0, (date - now).total_seconds()), MAX_RETRY_AFTER)


def _parse_date(value: bytes) -> datetime | None:
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
