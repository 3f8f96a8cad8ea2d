"""Order of a call's attempts after the first one failed: breakers, budget and backoff combined.

Pure: clock and randomness are handed in.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

from penstock.domain.backoff import retry_delay
from penstock.gateway.upstream.resilience.breaker import Breaker, BreakerPair
from penstock.gateway.upstream.resilience.retry_budget import RetryBudget

LAST_RESORT_SECONDS = 5.0
MAX_AWAITED_PAUSE = 2.0
"""Seconds of a pause that a server asks for up to which a call waits for its end."""
MIN_UNBUDGETED_WAIT = 1.0
"""Seconds between two requests of one call to a busy server while the budget is spent."""


@dataclass(frozen=True, slots=True)
class Step:
    """Next attempt: the candidate's index, to be tried after `wait` seconds."""

    index: int
    wait: float = 0.0


class Retry(enum.Enum):
    """Permission to ask the server of a failed attempt again: no, once, or until the caller's patience ends."""

    NEVER = 0
    ONCE = 1
    WHILE_PATIENT = 2


class RetryPlan:
    """Picks a call's candidates in their order.

    First each that its breakers allow. Then those that they forbid: with nobody else left an attempt beats an error,
    and the server may be back. At last those that were busy, again and again until `deadline` (monotonic seconds), and
    those that asked for a short pause.

    `next_step` returns the next attempt until there is none; the caller reports each failed attempt by
    `record_failure`. `breakers_of` returns the breakers of a candidate by its index. `blocked_by_breaker` lists the
    candidates that breakers did not allow and that were not tried.
    """

    __slots__ = (
        "_breakers_of", "_budget", "_busy", "_deadline", "_deferred", "_failed", "_has_tried_blocked", "_is_work_done",
        "_last_resort_ends_at", "_paused", "_pending", "_random", "_retries", "_unreachable", "blocked_by_breaker",
    )  # fmt: skip

    def __init__(
        self,
        size: int,
        breakers_of: Callable[[int], BreakerPair],
        budget: RetryBudget,
        random: Callable[[], float],
        deadline: float = math.inf,
    ) -> None:
        self.blocked_by_breaker: list[int] = []
        self._pending = list(range(size))
        self._breakers_of = breakers_of
        self._budget = budget
        self._random = random
        self._deadline = deadline
        self._failed: set[int] = set()
        self._is_work_done = False  # a server has had the request: more attempts are more work
        self._has_tried_blocked = False
        self._last_resort_ends_at = math.inf
        self._busy: list[tuple[int, Retry]] = []
        self._paused: list[int] = []  # were busy and asked for a pause
        self._retries: dict[int, int] = {}
        self._unreachable: set[Breaker] = set()
        self._deferred: set[int] = set()

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
                return Step(index)
        return self._next_blocked(now) or self._next_busy(now) or self._next_paused(now)

    def record_failure(
        self, index: int, request_sent: bool, retry: Retry = Retry.NEVER, unreachable: bool = False
    ) -> None:
        """Record a failed attempt.

        `request_sent`: the server had the request, so that more attempts are more work. `retry`: whether the same
        server may accept the request in a moment. `unreachable`: it accepted no connection or did not respond in time.
        """
        if unreachable:
            self._unreachable.add(self._breakers_of(index).server)
        self._failed.add(index)
        self._is_work_done = self._is_work_done or request_sent
        if retry is Retry.WHILE_PATIENT or (retry is Retry.ONCE and index not in self._retries):
            self._busy.append((index, retry))

    def _is_within_budget(self, breakers: BreakerPair, now: float) -> bool:
        if not self._is_work_done:
            return True
        if breakers.is_healthy:
            self._budget.charge(now)
            return True
        return self._budget.try_take(now)

    def _next_blocked(self, now: float) -> Step | None:
        """Return a candidate that its breakers forbid, unless its server has asked for a pause.

        The first one is free, so that the last server that can answer is always asked. Connecting to several dead ones
        may take long: after `LAST_RESORT_SECONDS` no more are tried.
        """
        self._last_resort_ends_at = min(self._last_resort_ends_at, now + LAST_RESORT_SECONDS)
        for index in self.blocked_by_breaker:
            if self._breakers_of(index).is_paused:
                continue
            if self._has_tried_blocked and now >= self._last_resort_ends_at:
                return None
            if self._has_tried_blocked and self._is_work_done and not self._budget.try_take(now):
                return None
            self._has_tried_blocked = True
            self.blocked_by_breaker.remove(index)
            return Step(index)
        return None

    def _next_busy(self, now: float) -> Step | None:
        """Return a server that was busy, after a wait that grows; where the budget is spent, after a longer one."""
        while self._busy:
            index, retry = self._busy.pop(0)
            if not self._breakers_of(index).allows(now):
                self._paused.append(index)
                continue
            retries = self._retries[index] = self._retries.get(index, 0) + 1
            wait = retry_delay(retries, self._random())
            if not self._budget.try_take(now):
                if retry is Retry.ONCE:
                    continue
                wait = MIN_UNBUDGETED_WAIT + retry_delay(retries, self._random())
            if now + wait < self._deadline:
                return Step(index, wait)
        return None

    def _next_paused(self, now: float) -> Step | None:
        """Return the server whose pause ends first, after the pause, if that is soon."""
        blocked = [(self._breakers_of(index), index) for index in (*self.blocked_by_breaker, *self._paused)]
        pauses = [(breakers.seconds_until_allowed(now), index) for breakers, index in blocked if breakers.is_paused]
        seconds, index = min(pauses, default=(math.inf, 0))
        wait = seconds + retry_delay(1, self._random())
        if seconds > MAX_AWAITED_PAUSE or now + wait >= self._deadline or not self._budget.try_take(now):
            return None
        (self._paused if index in self._paused else self.blocked_by_breaker).remove(index)
        return Step(index, wait)
