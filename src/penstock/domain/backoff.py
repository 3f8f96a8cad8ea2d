"""Exponential backoff."""


def backoff_delay(failures: int, first: float, maximum: float) -> float:
    """Return the seconds to wait after `failures` failures in a row (at least one): doubles from `first`."""
    return min(maximum, first * 2.0 ** min(failures - 1, 32))


def retry_delay(retry: int, random: float, first: float = 0.05, maximum: float = 1.0) -> float:
    """Return the seconds to wait before the `retry`th retry on the same server (from 1), with full jitter.

    Uniform between 0 and a bound that doubles, so that calls that failed together do not retry together. `random` is
    in [0, 1).
    """
    return random * backoff_delay(retry, first, maximum)
