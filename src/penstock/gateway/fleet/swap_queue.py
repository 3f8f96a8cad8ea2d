"""Whose turn it is on a server that cannot hold all its models at once: calls for one model go together.

A server that loads models on demand serves what it is sent in order, and loads a model again for every change of mind:
calls for two models that take turns make it load without end. So a call for a model that has no room waits here until
the models in its way have no calls left; what is in memory is served meanwhile. When the oldest has waited for the
fairness bound, the models in its way get no more calls until it has had its turn. On a server whose room is known to be
short no more calls are sent than it has slots: what waits in its own queue can no longer be put in order. Pure: the
clock is handed in, and who waits is told by `Ticket.grant`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.gateway.fleet.residency import Residency

FAIRNESS_SECONDS = 60.0
"""Seconds for which a model in memory may keep one out that is wanted."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A waiting call. `slots` is the number of calls of the model that may run at once.

    `on_granted` is called once, unless the ticket is cancelled first. It must call `start` before it returns, or leave
    the server alone.
    """

    model: str
    size: int
    slots: int
    since: float
    on_granted: Callable[[], None]


class SwapQueue:
    """Of one server. Every call that `start`s leaves by `finish`; one that waits may `cancel`. `running` is the number
    of calls by model."""

    __slots__ = ("_drained_for", "_draining", "_waiting", "fairness", "residency", "running")

    def __init__(self, residency: Residency, fairness: float = FAIRNESS_SECONDS) -> None:
        self.residency = residency
        self.fairness = fairness
        self.running: dict[str, int] = {}
        self._waiting: list[Ticket] = []
        self._draining: frozenset[str] = frozenset()
        self._drained_for = ""

    @property
    def waiting_calls(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def count_waiting(self, model: str) -> int:
        """Calls that wait for a model."""
        return sum(ticket.model == model for ticket in self._waiting)

    def request(self, model: str, size: int, slots: int, now: float, on_granted: Callable[[], None]) -> Ticket | None:
        """None: go, and `start`. Else wait to be granted; at `Ticket.since + fairness` somebody is to `grant_next`."""
        if not self.count_waiting(model) and self._can_start(model, size, slots):
            return None
        ticket = Ticket(model, size, slots, now, on_granted)
        self._waiting.append(ticket)
        return ticket

    def start(self, model: str, size: int, now: float) -> bool:
        """A call is sent; whether its model was in memory. It is from now on, and what had to make room is not."""
        held = model in self.residency.models
        self.running[model] = self.running.get(model, 0) + 1
        self.residency.touch(model, size, now, self.running)
        return held

    def finish(self, model: str, now: float) -> None:
        """A call has ended."""
        left = self.running.get(model, 0) - 1
        if left > 0:
            self.running[model] = left
        else:
            self.running.pop(model, None)
        if self._waiting:
            self.grant_next(now)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Its caller is gone."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self.grant_next(now)

    def grant_next(self, now: float) -> None:
        """Grant what may go now, the oldest first; and make way for the oldest that has waited too long."""
        while (ticket := self._next_ticket()) is not None:
            self._waiting.remove(ticket)
            ticket.on_granted()
        wanted = self._drained_for
        if self._draining and (wanted in self.residency.models or not self.count_waiting(wanted)):
            self._draining = frozenset()  # it has had its turn, or nobody wants it any more
            self.grant_next(now)
            return
        for ticket in self._waiting:
            if ticket.model == wanted if self._draining else ticket.model not in self.residency.models:
                if now - ticket.since >= self.fairness:
                    self._drained_for = ticket.model
                    self._draining |= self._select_blockers(ticket)
                return

    def _next_ticket(self) -> Ticket | None:
        """The oldest that may go."""
        closed: set[str] = set()
        for ticket in self._waiting:
            if ticket.model not in closed:
                if self._can_start(ticket.model, ticket.size, ticket.slots):
                    return ticket
                closed.add(ticket.model)
        return None

    def _can_start(self, model: str, size: int, slots: int) -> bool:
        """Whether a call may go now: its model is there and has a slot, or there is room to be had for it."""
        if not self.running:
            return not self._draining or model == self._drained_for
        if model in self.residency.models:
            if model in self._draining:
                return False
            return not self.residency.smallest_overflow or self.running.get(model, 0) < slots
        if self._draining and model != self._drained_for:
            return False
        return self.residency.can_fit(model, size, self.running)

    def _select_blockers(self, ticket: Ticket) -> frozenset[str]:
        """The models at work that must end for another's sake: those that end soonest, no more than needed."""
        left = dict(sorted(self.running.items(), key=lambda item: item[1]))
        left.pop(ticket.model, None)
        found: set[str] = set()
        for model in tuple(left):
            if self.residency.can_fit(ticket.model, ticket.size, left):
                break
            found.add(model)
            del left[model]
        return frozenset(found)
