"""Order of a call's attempts after the first one failed: breakers, budget and backoff combined.

Pure: clock and randomness are handed in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.domain.backoff import retry_delay
from penstock.gateway.upstream.resilience.breaker import Breaker, BreakerPair
from penstock.gateway.upstream.resilience.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True)
class Step:
    """Next attempt: the candidate's index, to be tried after `wait` seconds."""

    index: int
    wait: float = 0.0


class RetryPlan:
    """Picks a call's candidates in their order: each once, and one that was merely busy once more at the end.

    `next_step` returns the next attempt until there is none; the caller reports each failed attempt by
    `record_failure`. `breakers_of` returns the breakers of a candidate by its index. `blocked_by_breaker` lists the
    candidates that breakers did not allow.
    """

    __slots__ = (
        "_breakers_of", "_budget", "_busy", "_deferred", "_failed", "_has_attempted", "_is_work_done", "_pending",
        "_random", "_retried", "_unreachable", "blocked_by_breaker",
    )  # fmt: skip

    def __init__(
        self, size: int, breakers_of: Callable[[int], BreakerPair], budget: RetryBudget, random: Callable[[], float]
    ) -> None:
        self.blocked_by_breaker: list[int] = []
        self._pending = list(range(size))
        self._breakers_of = breakers_of
        self._budget = budget
        self._random = random
        self._failed: set[int] = set()
        self._is_work_done = False  # a server has had the request: more attempts are more work
        self._has_attempted = False
        self._busy: list[int] = []
        self._unreachable: set[Breaker] = set()
        self._deferred: set[int] = set()
        self._retried: set[int] = set()

    def next_step(self, now: float) -> Step | None:
        """Return the next attempt, or None when the call has failed."""
        while self._pending:
            index = self._pending.pop(0)
            if index in self._failed:
                continue
            breakers = self._breakers_of(index)
            if breakers.server in self._unreachable and index not in self._deferred:
                self._deferred.add(index)  # another model on a server that was just unreachable: try it last
                self._pending.append(index)
            elif not breakers.allows(now):
                self.blocked_by_breaker.append(index)
            elif self._is_within_budget(breakers, now):
                self._has_attempted = True
                return Step(index)
        if not self._has_attempted:
            return self._half_open_fallback(now)
        while self._busy:
            index = self._busy.pop(0)
            self._retried.add(index)
            if self._breakers_of(index).allows(now) and self._budget.try_take(now):
                return Step(index, retry_delay(1, self._random()))
        return None

    def record_failure(self, index: int, request_sent: bool, busy: bool = False, unreachable: bool = False) -> None:
        """Record a failed attempt.

        `request_sent`: the server had the request, so that more attempts are more work. `busy`: the same server may
        accept the request in a moment. `unreachable`: it accepted no connection or did not respond in time.
        """
        if unreachable:
            self._unreachable.add(self._breakers_of(index).server)
        self._has_attempted = True
        self._failed.add(index)
        self._is_work_done = self._is_work_done or request_sent
        if busy and index not in self._retried:
            self._busy.append(index)

    def _is_within_budget(self, breakers: BreakerPair, now: float) -> bool:
        if not self._is_work_done:
            return True
        if breakers.is_healthy:
            self._budget.charge(now)
            return True
        return self._budget.try_take(now)

    def _half_open_fallback(self, now: float) -> Step | None:
        """Return a half-open server beside its probe: no other candidate is left, and trying beats an error."""
        self._has_attempted = True
        self._pending.clear()
        blocked = self.blocked_by_breaker
        return next((Step(index) for index in blocked if self._breakers_of(index).is_blocked_by_probe(now)), None)
