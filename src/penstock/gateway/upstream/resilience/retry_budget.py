"""Limit on retries, against retry storms: servers in trouble get more work because they are in trouble.

The budget limits work that would add to such trouble: an attempt on a server that is not healthy (its last call failed,
or it is being probed), a second attempt on the same server, and a hedge. Attempts on healthy servers are charged but
never refused; attempts where no request was sent are free. Why this is enough: docs/decisions/0009. Pure: the clock is
handed in; times are monotonic seconds.
"""

import math

RATIO = 0.2
MINIMUM = 10.0
WINDOW = 10.0


class RetryBudget:
    """Leaking bucket: every call adds `ratio` of an attempt, every second `minimum / window`; a retry takes one.

    What is not taken leaks out over a `window`, so that in the long run the bucket holds `minimum` and the `ratio` of
    one window's traffic: an hour without retries does not save up for a storm. `calls` is counted up by the owner,
    which is all that a call without retries costs.
    """

    __slots__ = (
        "_calls_at_refill",
        "_minimum",
        "_ratio",
        "_refilled_at",
        "_tokens",
        "_window",
        "calls",
        "denied",
        "taken",
    )

    def __init__(self, now: float, ratio: float = RATIO, minimum: float = MINIMUM, window: float = WINDOW) -> None:
        self.calls = 0
        self.taken = 0
        self.denied = 0
        self._ratio = ratio
        self._minimum = minimum
        self._window = window
        self._refilled_at = now
        self._calls_at_refill = 0
        self._tokens = minimum

    def try_take(self, now: float) -> bool:
        """Take one attempt if there is one; return whether there was."""
        self._refill(now)
        if self._tokens < 1.0:
            self.denied += 1
            return False
        self._tokens -= 1.0
        self.taken += 1
        return True

    def charge(self, now: float) -> None:
        """Take one attempt even if there is none; never goes into debt."""
        self._refill(now)
        self._tokens = max(0.0, self._tokens - 1.0)
        self.taken += 1

    def _refill(self, now: float) -> None:
        """Refill as if the calls since the last refill had arrived evenly."""
        elapsed, calls = max(0.0, now - self._refilled_at), self.calls - self._calls_at_refill
        self._refilled_at, self._calls_at_refill = now, self.calls
        if elapsed < 1e-3:
            self._tokens += self._ratio * calls
            return
        remaining = math.exp(-elapsed / self._window)
        capacity = self._minimum + self._ratio * calls * self._window / elapsed
        self._tokens = capacity * (1.0 - remaining) + self._tokens * remaining
