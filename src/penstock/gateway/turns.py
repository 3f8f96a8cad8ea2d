"""Whose turn it is on a server that cannot hold all its models at once: calls for one model go together.

A server that loads models on demand serves what it is sent in order, and loads a model again for every change of mind:
calls for two models that take turns make it load without end. So a call for a model that has no room waits here until
the models in its way have no calls left; what is in memory is served meanwhile. When the oldest has waited for the
fairness bound, the models in its way get no more calls until it has had its turn. Pure: the clock is handed in, and
who waits is told by `Ticket.grant`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from penstock.gateway.residency import Residency

FAIRNESS = 30.0
"""Seconds for which a model in memory may keep one out that is wanted."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A call that waits for its model's turn. `grant` is called once, unless it leaves before."""

    model: str
    size: int
    since: float
    grant: Callable[[], None]


class Turns:
    """Of one server. Every call that `enter`s leaves by `leave`; one that waits may `give_up`."""

    __slots__ = ("_draining", "_running", "_waiting", "fairness", "residency")

    def __init__(self, residency: Residency, fairness: float = FAIRNESS) -> None:
        self.residency = residency
        self.fairness = fairness
        self._running: dict[str, int] = {}
        self._waiting: deque[Ticket] = deque()
        self._draining: frozenset[str] = frozenset()

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def waiting_for(self, model: str) -> int:
        """Calls that wait for a model."""
        return sum(ticket.model == model for ticket in self._waiting)

    def open_to(self, model: str, size: int) -> bool:
        """Whether a call may go now: its model is there and need not make room, or there is room to be had."""
        if model in self.residency.models:
            return model not in self._draining
        if self._draining:
            return False
        return self._room(size)

    def ask(self, model: str, size: int, now: float, grant: Callable[[], None]) -> Ticket | None:
        """None: go, and `enter`. Else wait to be granted; at `Ticket.since + fairness` somebody is to `look`."""
        if not self._waiting and self.open_to(model, size):
            return None
        if model in self.residency.models and model not in self._draining:
            return None
        ticket = Ticket(model, size, now, grant)
        self._waiting.append(ticket)
        self.look(now)
        return ticket

    def enter(self, model: str, size: int, now: float) -> bool:
        """A call is sent; whether its model was in memory. It is from now on, and what had to make room is not."""
        held = model in self.residency.models
        self._running[model] = self._running.get(model, 0) + 1
        self.residency.used(model, size, now, self._running)
        return held

    def leave(self, model: str, now: float) -> None:
        """A call has ended."""
        left = self._running.get(model, 0) - 1
        if left > 0:
            self._running[model] = left
        else:
            self._running.pop(model, None)
        if self._waiting:
            self.look(now)

    def give_up(self, ticket: Ticket, now: float) -> None:
        """Its caller is gone."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self.look(now)

    def look(self, now: float) -> None:
        """Grant what may go now. The oldest comes first; behind it those for the same model, and for models there."""
        while self._waiting:
            oldest = self._waiting[0]
            here = oldest.model in self.residency.models
            if here or self._room(oldest.size):
                self._draining = frozenset()
                self._grant(oldest.model)
                continue
            if now - oldest.since >= self.fairness and not self._draining:
                self._draining = frozenset(self._running) - {oldest.model}
            break
        else:
            self._draining = frozenset()
            return
        for model in {ticket.model for ticket in self._waiting}:
            if model in self.residency.models and model not in self._draining:
                self._grant(model)

    def _grant(self, model: str) -> None:
        """All that wait for a model go together."""
        batch = [ticket for ticket in self._waiting if ticket.model == model]
        self._waiting = deque(ticket for ticket in self._waiting if ticket.model != model)
        for ticket in batch:
            ticket.grant()

    def _room(self, size: int) -> bool:
        """Whether a model of that size finds room, if idle ones make way."""
        return not self._running or self.residency.fits(size, self._running)
