"""The Retry-After header of RFC 9110 (10.2.3)."""

import re

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A longer wait is as good as this one."""
_SECONDS = re.compile(rb"[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: bytes) -> float | None:
    """Return the seconds to wait, at most MAX_RETRY_AFTER; None for anything that is not a number of seconds."""
    value = value.strip()
    return min(float(value), MAX_RETRY_AFTER) if _SECONDS.fullmatch(value) else None
