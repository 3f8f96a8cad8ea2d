"""Whether a server may be asked just now: circuit breakers, one for each server and one for each model on it.

closed: calls pass and are counted. open: none passes until a time. half-open: one passes as a trial; if it goes well
the breaker closes and the server is brought back slowly, else it opens for twice as long. Pure: clock and chance are
handed in. Times are monotonic seconds.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from penstock.domain.errors import (
    ClientGone,
    ClientStalled,
    ConnectFailed,
    PenstockError,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamTimeout,
)
from penstock.domain.fleet import ServerStatus

CLOSED, OPEN, HALF_OPEN = range(3)
WORDS = ("closed", "open", "half-open")
JITTER = 0.2
"""Open times are spread by this part, both ways."""
LEAST_SHARE = 0.1
MOST_GUARDS = 4096
"""Models on servers that are remembered when nothing speaks against them."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and for how long; times in seconds.

    It opens after `streak` failures in a row, or when `ratio` of at least `least` calls within `window` failed; the
    window begins with the oldest failure in it. `longest` bounds the doubling open time, `longest_dead` that of a
    server that does not take connections (asking one costs nobody anything), `longest_told` an engine's Retry-After.
    After closing, the share of traffic grows over `slow_start`, and one failure is enough to open it again.
    """

    streak: int = 3
    ratio: float = 0.5
    least: int = 10
    window: float = 30.0
    first: float = 1.0
    longest: float = 30.0
    longest_dead: float = 8.0
    longest_told: float = 60.0
    slow_start: float = 10.0


class Breaker:
    """One breaker. As long as it is not `wary` nothing speaks against its server: calls need not be told to it at all.

    A call that `begin`s gets a permit, 0 unless it is a trial, and gives it back by exactly one of `succeed`, `fail`
    and `release`. What calls tell that began before the breaker opened is not heard.
    """

    __slots__ = (
        "_bad", "_closed_at", "_opened", "_permits", "_proof", "_trial", "cause", "dead", "good", "opened_at", "policy",
        "state", "streak", "unheard", "until", "wary",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = CLOSED
        self.good = 0
        self.streak = 0
        self.wary = False
        self.until = 0.0
        self.opened_at = 0.0
        self.dead = False
        self.cause: ConnectFailed | None = None  # why no connection was to be had, while that is why it is open
        self.unheard = False  # opened by silence or broken connections, not by what the engine said
        self._bad: deque[tuple[float, int]] = deque(maxlen=64)
        self._closed_at: float | None = None
        self._opened = 0
        self._permits = 0
        self._trial = 0
        self._proof: Callable[[], bool] | None = None

    def allows(self, now: float) -> bool:
        """Whether a call may begin."""
        state = self.state
        if state == CLOSED:
            return True
        if state == OPEN:
            return now >= self.until
        if self._trial and self._proof is not None and self._proof():
            self._close(now)  # the trial's answer has begun: it need not have ended
            return True
        return not self._trial

    @property
    def trying(self) -> bool:
        """Whether a trial is under way."""
        return self.state == HALF_OPEN and self._trial > 0

    def share(self, now: float) -> float:
        """The part of its usual traffic that it should get, in [0, 1]: 0 when it lets nothing through."""
        if self.state != CLOSED:
            return 1.0 if self.allows(now) else 0.0
        if self._closed_at is None:
            return 1.0
        grown = (now - self._closed_at) / self.policy.slow_start
        if grown >= 1.0:
            self._closed_at = None
            self._opened = 0
            return 1.0
        return max(LEAST_SHARE, grown)

    def begin(self, now: float, proof: Callable[[], bool] | None = None) -> int:
        """A call begins that `allows` has let pass: its permit. `proof` tells early that a trial goes well."""
        if self.state == CLOSED:
            return 0
        self.state = HALF_OPEN
        self._permits += 1
        self._trial = self._permits
        self._proof = proof
        return self._trial

    def succeed(self, permit: int, now: float) -> None:
        """The call went well."""
        if self.state == CLOSED:
            self.good += 1
            self.streak = 0
        elif permit and permit == self._trial:
            self._close(now)

    def fail(
        self,
        permit: int,
        now: float,
        chance: float,
        *,
        dead: bool = False,
        unheard: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """The call failed. `chance` in [0, 1) spreads the open time; `dead`: no connection was to be had;
        `unheard`: no sound answer came; `retry_after`: the seconds for which the engine itself wants to be left alone.
        """
        self.wary = True
        if self.state == CLOSED:
            self.streak += 1
            self._bad.append((now, self.good))
            if not (dead or retry_after or self._worn(now)):
                return
        elif not permit or permit != self._trial:
            if dead or retry_after:  # a late word of an open one's is believed, but it counts once
                self.dead = self.dead or dead
                self.until = max(self.until, now + self._told(retry_after))
            return
        self.dead, self.unheard, self.cause = dead, dead or unheard, None
        self._open(now, chance, retry_after)

    def release(self, permit: int) -> None:
        """The call told nothing: its client hung up, or it was never sent."""
        if permit and permit == self._trial and self.state == HALF_OPEN:
            self._trial = 0
            self._proof = None

    def revive(self) -> None:
        """The server, known dead, has been seen alive: a trial may begin at once, even beside one that got lost."""
        if self.state != CLOSED and self.unheard:
            self.state = HALF_OPEN
            self._trial = 0
            self._proof = None
            self._opened = 0

    def forgive(self, now: float) -> None:
        """Forget failures that no longer count."""
        if self.wary and self.state == CLOSED and not self.streak and self.share(now) >= 1.0:
            while self._bad and self._bad[0][0] < now - self.policy.window:
                self._bad.popleft()
            self.wary = bool(self._bad)

    def wait(self, now: float) -> float:
        """Seconds until it lets a call through, as far as is known."""
        return max(0.0, self.until - now) if self.state == OPEN else 0.0

    def _worn(self, now: float) -> bool:
        """Whether there were too many failures."""
        policy, bad = self.policy, self._bad
        if self.streak >= policy.streak or self.share(now) < 1.0:
            return True
        while bad[0][0] < now - policy.window:
            bad.popleft()
        failed = len(bad)
        calls = failed + self.good - bad[0][1]
        return calls >= policy.least and failed >= policy.ratio * calls

    def _open(self, now: float, chance: float, retry_after: float | None) -> None:
        policy = self.policy
        if self._closed_at is not None and now - self._closed_at >= policy.slow_start:
            self._opened = 0
        longest = policy.longest_dead if self.dead else policy.longest
        seconds = min(longest, policy.first * 2.0 ** min(self._opened, 32)) * (1 - JITTER + 2 * JITTER * chance)
        self._opened += 1
        self.state = OPEN
        self.opened_at = now
        self.until = now + (self._told(retry_after) if retry_after else seconds)
        self._closed_at = None
        self._trial = 0
        self._proof = None

    def _told(self, retry_after: float | None) -> float:
        return min(retry_after or 0.0, self.policy.longest_told)

    def _close(self, now: float) -> None:
        self.state = CLOSED
        self.dead = self.unheard = False
        self.cause = None
        self.streak = 0
        self._bad.clear()
        self._closed_at = now
        self._trial = 0
        self._proof = None


Permits = tuple[int, int]
NO_PERMITS: Permits = (0, 0)


class Guard:
    """The two breakers that a call to a deployment passes: its server's and its model's there."""

    __slots__ = ("_chance", "model", "server")

    def __init__(self, server: Breaker, model: Breaker, chance: Callable[[], float]) -> None:
        self.server = server
        self.model = model
        self._chance = chance

    @property
    def wary(self) -> bool:
        """Whether anything speaks against either, so that calls must be told."""
        return self.server.wary or self.model.wary

    @property
    def healthy(self) -> bool:
        """Whether nothing speaks against it: both are closed and the last call went well."""
        server, model = self.server, self.model
        return not (server.state or model.state or server.streak or model.streak)

    def allows(self, now: float) -> bool:
        """Whether a call may begin."""
        return self.server.allows(now) and self.model.allows(now)

    @property
    def trying(self) -> bool:
        """Whether a trial is all that stands in the way."""
        server, model = self.server, self.model
        return (server.trying or model.trying) and server.state != OPEN and model.state != OPEN

    def share(self, now: float) -> float:
        """The part of its usual traffic that it should get."""
        return min(self.server.share(now), self.model.share(now))

    def wait(self, now: float) -> float:
        """Seconds until a call may begin, as far as is known."""
        return max(self.server.wait(now), self.model.wait(now))

    def begin(self, now: float, proof: Callable[[], bool] | None = None) -> Permits:
        """A call begins; give its permits back by exactly one of `well`, `failed` and `release`."""
        return self.server.begin(now, proof), self.model.begin(now, proof)

    def well(self, permits: Permits, now: float) -> None:
        """The call went well, or its failure was the caller's own."""
        self.server.succeed(permits[0], now)
        self.model.succeed(permits[1], now)

    def release(self, permits: Permits) -> None:
        """The call told nothing."""
        self.server.release(permits[0])
        self.model.release(permits[1])

    def failed(self, permits: Permits, error: PenstockError, now: float, answered: bool) -> None:
        """The call ended by `error`; `answered` says whether the engine sent a response with a status of its own.

        Nobody is to blame for a client that hangs up; no connection is the server's fault; silence and broken answers
        are both's; what the engine says is the model's alone.
        """
        server, model = self.server, self.model
        if isinstance(error, ClientGone | ClientStalled):
            self.release(permits)
        elif isinstance(error, ConnectFailed):
            server.fail(permits[0], now, self._chance(), dead=True)
            if server.dead:
                server.cause = error
            model.release(permits[1])
        elif isinstance(error, UpstreamTimeout | UpstreamCut | UpstreamGarbage) and not answered:
            server.fail(permits[0], now, self._chance(), unheard=True)
            model.fail(permits[1], now, self._chance(), unheard=True)
        elif isinstance(error, UpstreamError) or (answered and error.retryable):
            server.succeed(permits[0], now)
            if error.retryable:
                model.fail(permits[1], now, self._chance(), retry_after=error.retry_after)
            else:
                model.succeed(permits[1], now)
        elif answered:
            self.well(permits, now)
        else:
            self.release(permits)


class Breakers:
    """All breakers, by server and by model on a server. `chance` gives numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float], policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self._chance = chance
        self._servers: dict[str, Breaker] = {}
        self._guards: dict[tuple[str, str], Guard] = {}
        self._up: dict[str, bool] = {}

    def of(self, server: str, model: str) -> Guard:
        """The guard of a model on a server."""
        guard = self._guards.get((server, model))
        if guard is None:
            here = self._servers.setdefault(server, Breaker(self.policy))
            guard = self._guards[server, model] = Guard(here, Breaker(self.policy), self._chance)
        return guard

    def hear(self, statuses: Iterable[ServerStatus], now: float) -> None:
        """What the last looks told: a server that was away and is up again may be tried at once.

        Old failures are forgotten, and so are servers that are gone, unless something speaks against them.
        """
        guards = self._guards
        for one in (*self._servers.values(), *(guard.model for guard in guards.values())):
            one.forgive(now)
        before, self._up = self._up, {}
        for status in statuses:
            name = status.server.name
            self._up[name] = status.is_up
            breaker = self._servers.get(name)
            if status.is_up and breaker is not None:
                again = not before.get(name, True)
                if again or (breaker.dead and status.checked_at > breaker.opened_at):
                    self._revive(name, breaker)
        crowded = len(guards) > MOST_GUARDS
        for key in [key for key, guard in guards.items() if (crowded or key[0] not in self._up) and not guard.wary]:
            del guards[key]
        for name in [name for name, one in self._servers.items() if name not in self._up and not one.wary]:
            if not any(server == name for server, _ in guards):
                del self._servers[name]

    def _revive(self, name: str, breaker: Breaker) -> None:
        breaker.revive()
        for (server, _), guard in self._guards.items():
            if server == name:
                guard.model.revive()

    def share(self, server: str, model: str, now: float) -> float:
        """The part of its usual traffic that a model on a server should get, 0 to 1."""
        guard = self._guards.get((server, model))
        if guard is not None:
            return guard.share(now)
        breaker = self._servers.get(server)
        return 1.0 if breaker is None else breaker.share(now)

    def share_of(self, server: str) -> Callable[[str, float], float]:
        """The same of one server, for those who may not know of breakers."""
        return functools.partial(self.share, server)

    def settled(self, server: str, now: float) -> bool:
        """Whether nothing limits what a server should get."""
        models = [guard.model for (name, _), guard in self._guards.items() if name == server]
        breakers = [self._servers[server], *models] if server in self._servers else models
        return all(breaker.state == CLOSED and breaker.share(now) >= 1.0 for breaker in breakers)

    def states(self) -> dict[tuple[str, str], str]:
        """The state of every breaker by (server, model); the server's own under model ""."""
        told = {(name, ""): WORDS[breaker.state] for name, breaker in self._servers.items()}
        return told | {key: WORDS[guard.model.state] for key, guard in self._guards.items()}

    def reset(self) -> None:
        """Forget everything that speaks against anybody."""
        for breaker in (*self._servers.values(), *(guard.model for guard in self._guards.values())):
            breaker.__init__(self.policy)  # type: ignore[misc]
