"""Circuit breakers: decide whether a server may get calls. One for each server and one for each model on it.

Closed: calls pass and are counted. Open: no call passes until a deadline. Half-open: one call passes as a probe; if it
succeeds the breaker closes and traffic grows back slowly, else it opens for twice as long. Pure: clock and randomness
are handed in. Times are monotonic seconds.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from penstock.domain.backoff import backoff_delay
from penstock.domain.errors import ConnectFailed, PenstockError
from penstock.domain.fault import Fault

CLOSED, OPEN, HALF_OPEN = range(3)
STATE_NAMES = ("closed", "open", "half-open")
JITTER = 0.2
"""Open times vary by this fraction, up and down."""
MIN_TRAFFIC_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Rules for when a breaker opens and for how long; times in seconds.

    It opens after `max_streak` failures in a row, or when `failure_ratio` of at least `min_calls` calls within `window`
    failed; the window starts at the oldest failure in it. The open time doubles from `first_open_time` up to
    `max_open_time`, or up to `max_unreachable_time` for a server that accepts no connections (trying one is cheap). A
    server's Retry-After counts up to `max_retry_after`. After closing, the share of traffic grows over `slow_start`,
    during which one failure opens the breaker again.
    """

    max_streak: int = 3
    failure_ratio: float = 0.5
    min_calls: int = 10
    window: float = 30.0
    first_open_time: float = 1.0
    max_open_time: float = 30.0
    max_unreachable_time: float = 8.0
    max_retry_after: float = 60.0
    slow_start: float = 10.0


class Breaker:
    """One circuit breaker. While it is not `is_tracking` it has no failures to count: calls may skip it altogether.

    A call gets a permit from `acquire`, 0 while it is closed, and returns it by exactly one of `record_success`,
    `record_failure` and `release`. Results of calls that began before the breaker opened are ignored. A call that goes
    through although `allows` forbids it, because no other server is left, is no probe, but its success counts.

    `unreachable`: it opened because the server accepted no connection, for the reason `connect_error`. `no_response`:
    it opened because no complete response came, not because of what the server answered. `is_paused`: it opened because
    the server asked for a pause.
    """

    __slots__ = (
        "_before_opening", "_closed_at", "_consecutive_opens", "_failures", "_last_permit", "_permit_at_opening",
        "_probe_has_started", "_probe_permit", "connect_error", "failure_streak", "is_paused", "is_tracking",
        "no_response", "open_until", "opened_at", "policy", "state", "successes", "unreachable",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = CLOSED
        self.successes = 0
        self.failure_streak = 0
        self.is_tracking = False
        self.open_until = 0.0
        self.opened_at = 0.0
        self.unreachable = False
        self.connect_error: ConnectFailed | None = None
        self.no_response = False
        self.is_paused = False
        self._before_opening = CLOSED
        self._permit_at_opening = 0
        self._failures: deque[tuple[float, int]] = deque(maxlen=64)  # time, successes until then
        self._closed_at: float | None = None
        self._consecutive_opens = 0
        self._last_permit = 0
        self._probe_permit = 0
        self._probe_has_started: Callable[[], bool] | None = None

    def allows(self, now: float) -> bool:
        """Return whether a call may begin."""
        state = self.state
        if state == CLOSED:
            return True
        if state == OPEN:
            return now >= self.open_until
        if self._probe_permit and self._probe_has_started is not None and self._probe_has_started():
            self._close(now)  # a probe succeeds when its response starts, long before it ends
            return True
        return not self._probe_permit

    @property
    def has_probe_in_flight(self) -> bool:
        """True while a probe is under way."""
        return self.state == HALF_OPEN and self._probe_permit > 0

    def traffic_share(self, now: float) -> float:
        """Return the fraction of its usual traffic that the server should get, 0 to 1."""
        if self.state != CLOSED:
            return 1.0 if self.allows(now) else 0.0
        if self._closed_at is None:
            return 1.0
        share = (now - self._closed_at) / self.policy.slow_start
        if share >= 1.0:
            self._closed_at = None
            self._consecutive_opens = 0
            return 1.0
        return max(MIN_TRAFFIC_SHARE, share)

    def acquire(self, now: float, has_started: Callable[[], bool] | None = None) -> int:
        """Return the permit of a call.

        `has_started` reports whether the call's response has started, if the call turns out to be a probe.
        """
        if self.state == CLOSED:
            return 0
        self._last_permit += 1
        if not self.allows(now):
            return self._last_permit
        if self.state == CLOSED:
            return 0
        self.state = HALF_OPEN
        self._probe_permit = self._last_permit
        self._probe_has_started = has_started
        return self._probe_permit

    def record_success(self, permit: int, now: float) -> None:
        """Count a call that succeeded; one that began after the breaker opened closes it."""
        if self.state == CLOSED:
            self.successes += 1
            self.failure_streak = 0
        elif permit > self._permit_at_opening:
            self._close(now)

    def record_failure(
        self,
        permit: int,
        now: float,
        jitter: float,
        *,
        unreachable: bool = False,
        no_response: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Count a call that failed and open the breaker when there are too many.

        `jitter` in [0, 1) spreads the open time. `unreachable`: there was no connection. `no_response`: there was no
        complete response. `retry_after`: seconds for which the server asked not to be called.
        """
        self.is_tracking = True
        if self.state == CLOSED:
            self.failure_streak += 1
            self._failures.append((now, self.successes))
            if not (unreachable or retry_after or self._should_open(now)):
                return
        elif not permit or permit != self._probe_permit:
            if unreachable or retry_after:
                # A failure reported after the breaker opened may extend the open time but is not counted again.
                self.unreachable = self.unreachable or unreachable
                self.open_until = max(self.open_until, now + self._bounded_retry_after(retry_after))
            return
        self.unreachable, self.no_response, self.connect_error = unreachable, unreachable or no_response, None
        self._open(now, jitter, retry_after)

    def refund(self, failed_at: float) -> None:
        """Take back the failure that was counted at `failed_at`, and what followed from it."""
        self.failure_streak = max(0, self.failure_streak - 1)
        for failure in self._failures:
            if failure[0] == failed_at:
                self._failures.remove(failure)
                break
        if self.state == OPEN and self.opened_at == failed_at and not self.unreachable:
            self._consecutive_opens -= 1
            self.state = self._before_opening
            self.open_until = failed_at
            self._end_probe()

    def release(self, permit: int) -> None:
        """Return the permit of a call without a result: its client disconnected, or it was never sent."""
        if permit and permit == self._probe_permit and self.state == HALF_OPEN:
            self._end_probe()

    def allow_probe(self) -> None:
        """Let the next call probe, even if an earlier probe never reported back: a health check has succeeded.

        Does nothing when the breaker opened because of what the server answered.
        """
        if self.state != CLOSED and self.no_response:
            self.state = HALF_OPEN
            self._consecutive_opens = 0
            self._end_probe()

    def expire_failures(self, now: float) -> None:
        """Forget failures older than the window; stop tracking when none is left."""
        if self.is_tracking and self.state == CLOSED and not self.failure_streak and self.traffic_share(now) >= 1.0:
            while self._failures and self._failures[0][0] < now - self.policy.window:
                self._failures.popleft()
            self.is_tracking = bool(self._failures)

    def seconds_until_allowed(self, now: float) -> float:
        """Return the seconds until a call may begin, as far as known."""
        return max(0.0, self.open_until - now) if self.state == OPEN else 0.0

    def _should_open(self, now: float) -> bool:
        policy, failures = self.policy, self._failures
        if self.failure_streak >= policy.max_streak or self.traffic_share(now) < 1.0:
            return True
        while failures[0][0] < now - policy.window:
            failures.popleft()
        failed = len(failures)
        calls = failed + self.successes - failures[0][1]
        return calls >= policy.min_calls and failed >= policy.failure_ratio * calls

    def _open(self, now: float, jitter: float, retry_after: float | None) -> None:
        policy = self.policy
        if self._closed_at is not None and now - self._closed_at >= policy.slow_start:
            self._consecutive_opens = 0
        self._consecutive_opens += 1
        max_seconds = policy.max_unreachable_time if self.unreachable else policy.max_open_time
        seconds = backoff_delay(self._consecutive_opens, policy.first_open_time, max_seconds)
        if retry_after:
            seconds = self._bounded_retry_after(retry_after)
        else:
            seconds *= 1 - JITTER + 2 * JITTER * jitter
        self._before_opening = self.state
        self._permit_at_opening = self._last_permit
        self.is_paused = bool(retry_after)
        self.state = OPEN
        self.opened_at = now
        self.open_until = now + seconds
        self._closed_at = None
        self._end_probe()

    def _bounded_retry_after(self, retry_after: float | None) -> float:
        return min(retry_after or 0.0, self.policy.max_retry_after)

    def _close(self, now: float) -> None:
        self.state = CLOSED
        self.unreachable = self.no_response = False
        self.connect_error = None
        self.failure_streak = 0
        self._failures.clear()
        self._closed_at = now
        self._end_probe()

    def _end_probe(self) -> None:
        self._probe_permit = 0
        self._probe_has_started = None


class Permits(NamedTuple):
    """A call's permits of its server's and its model's breaker; 0 where it is no probe."""

    server: int = 0
    model: int = 0


NO_PERMITS = Permits()


class BreakerPair:
    """The two breakers that a call to a deployment passes: its server's, and its model's on that server."""

    __slots__ = ("_random", "model", "server")

    def __init__(self, server: Breaker, model: Breaker, random: Callable[[], float]) -> None:
        self.server = server
        self.model = model
        self._random = random

    @property
    def is_tracking(self) -> bool:
        """True while either breaker has failures to count, so that calls must report their results."""
        return self.server.is_tracking or self.model.is_tracking

    @property
    def is_paused(self) -> bool:
        """True while the server's own wish for a pause blocks calls."""
        return self.model.state == OPEN and self.model.is_paused

    @property
    def is_healthy(self) -> bool:
        """True if both breakers are closed and the last call succeeded."""
        server, model = self.server, self.model
        return not (server.state or model.state or server.failure_streak or model.failure_streak)

    def allows(self, now: float) -> bool:
        """Return whether a call may begin."""
        return self.server.allows(now) and self.model.allows(now)

    def is_blocked_by_probe(self, now: float) -> bool:
        """Return whether a probe in flight is all that blocks further calls."""
        has_probe = self.server.has_probe_in_flight or self.model.has_probe_in_flight
        return has_probe and not self.seconds_until_allowed(now)

    def traffic_share(self, now: float) -> float:
        """Return the fraction of its usual traffic that the deployment should get, 0 to 1."""
        return min(self.server.traffic_share(now), self.model.traffic_share(now))

    def seconds_until_allowed(self, now: float) -> float:
        """Return the seconds until a call may begin, as far as known."""
        return max(self.server.seconds_until_allowed(now), self.model.seconds_until_allowed(now))

    def acquire(self, now: float, has_started: Callable[[], bool] | None = None) -> Permits:
        """Return the permits of a call.

        Return them by exactly one of `record_success`, `record_failure` and `release`. `has_started`: see
        `Breaker.acquire`.
        """
        return Permits(self.server.acquire(now, has_started), self.model.acquire(now, has_started))

    def record_success(self, permits: Permits, now: float) -> None:
        """Count a call that succeeded, or that failed by its caller's fault."""
        self.server.record_success(permits.server, now)
        self.model.record_success(permits.model, now)

    def release(self, permits: Permits) -> None:
        """Return the permits of a call without a result."""
        self.server.release(permits.server)
        self.model.release(permits.model)

    def record_failure(self, permits: Permits, error: PenstockError, now: float, fault: Fault, answered: bool) -> None:
        """Count a call that ended by `error`; `answered`: the server sent an error response with a status of its own.

        Only failures that are charged count, and the pause that a busy server asks for. A server that answers is well,
        whatever it answers.
        """
        server, model = self.server, self.model
        if fault is Fault.UNREACHABLE:
            server.record_failure(permits.server, now, self._random(), unreachable=True)
            if server.unreachable and isinstance(error, ConnectFailed):
                server.connect_error = error
            model.release(permits.model)
        elif fault is Fault.SERVER:
            server.record_failure(permits.server, now, self._random(), no_response=True)
            model.record_failure(permits.model, now, self._random(), no_response=True)
        elif fault is Fault.MODEL:
            server.record_success(permits.server, now)
            model.record_failure(permits.model, now, self._random(), retry_after=error.retry_after)
        elif fault is Fault.BUSY:
            server.record_success(permits.server, now)
            if error.retry_after:
                model.record_failure(permits.model, now, self._random(), retry_after=error.retry_after)
            else:
                model.release(permits.model)
        elif answered and fault in (Fault.REQUEST, Fault.DEPLOYMENT):
            self.record_success(permits, now)
        else:
            self.release(permits)

    def refund(self, failed_at: float, fault: Fault) -> None:
        """Take back a failure that was counted at `failed_at`: it was the request's fault."""
        self.model.refund(failed_at)
        if fault is Fault.SERVER:
            self.server.refund(failed_at)
