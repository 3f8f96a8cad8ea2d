"""How often a server is looked at, and what a look makes of its state. Pure: the clock and chance are handed in."""

from dataclasses import dataclass, replace

from penstock.domain.errors import PenstockError, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server, ServerStatus, State
from penstock.gateway.fleet.catalog import ServerLoad, list_names
from penstock.gateway.upstream.resilience.backoff import backoff_delay

SUSPICION_GAP = 1.0
"""Seconds between two looks at one server, however often it is suspected."""

LONGEST_ABSENCE = 8.0
"""Seconds between two looks at a server that is away: what comes back has work again within ten."""

PATIENCE = 3
"""Looks in a row that may time out while the server is visibly at work for us."""


@dataclass(slots=True)
class Pulse:
    """When one server is to be looked at next. Times are monotonic seconds.

    A server that answers is looked at every `interval` (± 10 %); one that fails after `first_retry`, twice that, and
    so on up to eight seconds; one that a call failed on at once, but not more than once a second.
    """

    interval: float = 30.0
    first_retry: float = 1.0
    failures: int = 0
    began_at: float = float("-inf")
    next_at: float = float("-inf")
    looking: bool = False
    suspected: bool = False

    def begin(self, now: float) -> None:
        """A look begins."""
        self.began_at = now
        self.looking = True
        self.suspected = False

    def settle(self, now: float, ok: bool, chance: float) -> None:
        """A look has ended; `chance` in [0, 1) spreads the next one."""
        self.looking = False
        self.failures = 0 if ok else self.failures + 1
        longest = min(self.interval, LONGEST_ABSENCE)
        wait = self.interval if ok else backoff_delay(self.failures, self.first_retry, longest)
        self.next_at = now + wait * (0.9 + 0.2 * chance)
        if self.suspected:
            self.suspect(now)

    def idle(self, now: float, interval: float, chance: float) -> None:
        """A look at an address that nobody asked for has found nothing: no reason to hurry."""
        self.looking = False
        self.next_at = now + interval * (0.9 + 0.2 * chance)

    def stale(self, now: float) -> bool:
        """Whether a look may tell something new: the last one is not of this second, or the next one is due."""
        return self.looking or now - self.began_at >= SUSPICION_GAP or self.next_at - now <= SUSPICION_GAP

    def suspect(self, now: float) -> bool:
        """A call has failed: look soon. Returns whether that is sooner than planned."""
        if self.looking:
            self.suspected = True
            return False
        soon = max(now, self.began_at + SUSPICION_GAP)
        if soon >= self.next_at:
            return False
        self.next_at = soon
        return True


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at a server saw: `inventory`, or the `error` that stood in the way. `url` is what answered.

    `response_time` is the seconds that the first thing fetched took.
    """

    inventory: Inventory | None = None
    url: str = ""
    response_time: float = 0.0
    error: Exception | None = None


def judge(before: ServerStatus, sight: Sight, now: float) -> ServerStatus:
    """The status after a look. A server that is down or loading keeps the models that it was last seen with."""
    found = sight.inventory
    if found is None:
        return replace(before, state=State.DOWN, checked_at=now, error=explain(sight.error), detail="")
    known = found.models if found.models or found.state is State.UP else before.models
    return ServerStatus(
        server=before.server,
        state=found.state,
        url=sight.url,
        models=offered(before.server, known),
        response_time=sight.response_time,
        checked_at=now,
        version=found.version,
        slots=found.slots,
        error=found.detail if found.state is State.DOWN else "",
        detail=found.detail,
    )


def forgivable(before: ServerStatus, sight: Sight, live: ServerLoad | None, failures: int) -> bool:
    """Whether a look that failed says only that the server is busy: it timed out while calls on it do well."""
    return (
        before.is_up
        and isinstance(sight.error, UpstreamTimeout)
        and live is not None
        and live.running > 0
        and live.consecutive_failures == 0
        and failures < PATIENCE
    )


def explain(error: Exception | None) -> str:
    """Why a look failed, in words for people."""
    if isinstance(error, PenstockError):
        return error.message
    return f"its answer could not be read ({type(error).__name__})"


def offered(server: Server, models: tuple[Model, ...]) -> tuple[Model, ...]:
    """The models that may be asked of a server: all of them, or those that its settings list.

    Where the server itself lists none, the settings' word is taken for it.
    """
    if not server.models:
        return models
    if not models:
        return tuple(Model(name) for name in server.models)
    wanted = {name for model in server.models for name in list_names(Model(model))}
    return tuple(model for model in models if wanted.intersection(list_names(model)))
