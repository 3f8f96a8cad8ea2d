"""Swap queue: batches the calls of each model on a server whose memory cannot hold all its models at once.

A server that loads models on demand serves calls in order and swaps models for each of them: calls that alternate
between two models make it load without end. So a call for a model that does not fit waits here until the models that
block it have no calls left; calls for loaded models are served meanwhile. When the oldest call has waited for the
fairness bound, the models that block it get no more calls until it has started. If the server is known to be short of
memory, it gets no more calls than it has slots: calls in its own queue could not be reordered.

Pure: the clock is passed in, and waiting calls are resumed through `Ticket.on_granted`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.gateway.fleet.residency import Residency

FAIRNESS_SECONDS = 60.0
"""Seconds for which the calls of a loaded model may block a model that is not loaded."""


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
    """Swap queue of one server. `running` is the number of running calls by model.

    A call is sent between `start` and `finish`. Before that it makes a `request`, and waits if it gets a ticket, which
    it may `cancel`.
    """

    __slots__ = ("_draining", "_draining_for", "_waiting", "fairness", "residency", "running")

    def __init__(self, residency: Residency, fairness: float = FAIRNESS_SECONDS) -> None:
        self.residency = residency
        self.fairness = fairness
        self.running: dict[str, int] = {}
        self._waiting: list[Ticket] = []
        self._draining: frozenset[str] = frozenset()
        self._draining_for = ""

    @property
    def waiting_calls(self) -> int:
        """Number of waiting calls."""
        return len(self._waiting)

    def count_waiting(self, model: str) -> int:
        """Return the number of calls that wait for a model."""
        return sum(ticket.model == model for ticket in self._waiting)

    def request(self, model: str, size: int, slots: int, now: float, on_granted: Callable[[], None]) -> Ticket | None:
        """Return None if the call may start now; call `start` then.

        Otherwise return a ticket. Schedule `grant_next` at `ticket.since + fairness`.
        """
        if not self.count_waiting(model) and self._can_start(model, size, slots):
            return None
        ticket = Ticket(model, size, slots, now, on_granted)
        self._waiting.append(ticket)
        return ticket

    def start(self, model: str, size: int, now: float) -> bool:
        """Count a call as running and its model as loaded. Return whether the model was loaded before."""
        was_loaded = model in self.residency.models
        self.running[model] = self.running.get(model, 0) + 1
        self.residency.touch(model, size, now, self.running)
        return was_loaded

    def finish(self, model: str, now: float) -> None:
        """Count a call as ended, and grant waiting calls."""
        remaining = self.running.get(model, 0) - 1
        if remaining > 0:
            self.running[model] = remaining
        else:
            self.running.pop(model, None)
        if self._waiting:
            self.grant_next(now)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Remove the ticket of a call whose client has disconnected."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self.grant_next(now)

    def grant_next(self, now: float) -> None:
        """Grant the calls that can start, oldest first; start draining for one that has waited too long."""
        while (ticket := self._find_next()) is not None:
            self._waiting.remove(ticket)
            ticket.on_granted()
        target = self._draining_for
        if self._draining and (target in self.residency.models or not self.count_waiting(target)):
            self._draining = frozenset()  # the target model was loaded, or no call waits for it any more
            self.grant_next(now)
            return
        for ticket in self._waiting:
            is_blocked = ticket.model == target if self._draining else ticket.model not in self.residency.models
            if is_blocked:
                if now - ticket.since >= self.fairness:
                    self._draining_for = ticket.model
                    self._draining |= self._select_blockers(ticket)
                return

    def _find_next(self) -> Ticket | None:
        """Return the oldest ticket that can start."""
        blocked: set[str] = set()
        for ticket in self._waiting:
            if ticket.model not in blocked:
                if self._can_start(ticket.model, ticket.size, ticket.slots):
                    return ticket
                blocked.add(ticket.model)
        return None

    def _can_start(self, model: str, size: int, slots: int) -> bool:
        """Return whether a call can start: its model is loaded and has a free slot, or can be loaded."""
        if not self.running:
            return not self._draining or model == self._draining_for
        if model in self.residency.models:
            if model in self._draining:
                return False
            return not self.residency.smallest_overflow or self.running.get(model, 0) < slots
        if self._draining and model != self._draining_for:
            return False
        return self.residency.can_fit(model, size, self.running)

    def _select_blockers(self, ticket: Ticket) -> frozenset[str]:
        """Select the running models that must end for a ticket: those with the fewest calls, no more than needed."""
        remaining = dict(sorted(self.running.items(), key=lambda item: item[1]))
        remaining.pop(ticket.model, None)
        blockers: set[str] = set()
        for model in tuple(remaining):
            if self.residency.can_fit(ticket.model, ticket.size, remaining):
                break
            blockers.add(model)
            del remaining[model]
        return frozenset(blockers)
