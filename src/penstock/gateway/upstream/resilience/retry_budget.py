"""How much may be asked twice. Pure: clock and chance are handed in; times are monotonic seconds.

A retry storm is what this is against: servers in trouble that get more work because they are in trouble. So the
budget decides only about work that would add to such trouble: a further try on a server that speaks against itself
(its last call failed, or it is being tried), a second try on the same server, and a hedge. Two things need no budget:

- a server that took no connection, or that a breaker kept the call from: nothing was sent, no work was made;
- going on to a server in good standing (both breakers closed, last call well). There can be one such step for each
  healthy server at most, three failures end a server's good standing for everybody, and with one good server left no
  client may see an error before its first byte, however small the budget.

Steps to healthy servers are charged all the same, so that they leave less for the doubtful ones. Where every server
fails, none is in good standing, and what is sent beyond one try a call is a fifth of the traffic and a small minimum.
"""

import math

RATIO = 0.2
MINIMUM = 10.0
WINDOW = 10.0


class RetryBudget:
    """A leaking bucket: every call puts `ratio` of a try in, every second `minimum / window`, a retry takes one.

    What is not taken leaks out over a `window`, so that in the long run it holds `minimum` and the `ratio` of one
    window's traffic: an hour without retries earns no storm. `calls` is for its owner to
    count up: one addition is all that an untroubled call costs.
    """

    __slots__ = ("_at", "_minimum", "_ratio", "_seen", "_tokens", "_window", "calls", "denied", "taken")

    def __init__(self, now: float, ratio: float = RATIO, minimum: float = MINIMUM, window: float = WINDOW) -> None:
        self.calls = 0
        self.taken = 0
        self.denied = 0
        self._ratio = ratio
        self._minimum = minimum
        self._window = window
        self._at = now
        self._seen = 0
        self._tokens = minimum

    def take(self, now: float) -> bool:
        """Whether one more try may be made; if so it is charged."""
        self._fill(now)
        if self._tokens < 1.0:
            self.denied += 1
            return False
        self._tokens -= 1.0
        self.taken += 1
        return True

    def charge(self, now: float) -> None:
        """A try is made whatever the budget says: it leaves less for others, but never a debt."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1.0)
        self.taken += 1

    def _fill(self, now: float) -> None:
        """Fill it as if the calls since the last time had come evenly."""
        passed, came = max(0.0, now - self._at), self.calls - self._seen
        self._at, self._seen = now, self.calls
        if passed < 1e-3:
            self._tokens += self._ratio * came
            return
        kept = math.exp(-passed / self._window)
        full = self._minimum + self._ratio * came * self._window / passed
        self._tokens = full * (1.0 - kept) + self._tokens * kept


def back_off(again: int, chance: float, first: float = 0.05, longest: float = 1.0) -> float:
    """Seconds to wait before asking the same server for the `again`th time (from 1), with full jitter.

    Uniform between 0 and a bound that doubles, so that calls that failed together do not come back together.
    """
    return chance * min(longest, first * 2.0 ** min(again - 1, 32))
