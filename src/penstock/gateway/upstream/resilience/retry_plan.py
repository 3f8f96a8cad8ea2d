"""Which candidate a call tries next, once the first has not delivered: breakers, budget and back-off put together.

Pure: the clock and chance are handed in.
"""

from collections.abc import Callable
from typing import NamedTuple

from penstock.gateway.upstream.resilience.breaker import Breaker, Guard
from penstock.gateway.upstream.resilience.retry_budget import RetryBudget, back_off


class Step(NamedTuple):
    """Try this candidate (by its place) after `wait` seconds."""

    place: int
    wait: float = 0.0


class Course:
    """The way of one call through its candidates, in their order; each is tried once, and one that was merely busy
    once more at the end.

    `next` tells the next step until there is none; after each the caller tells by `failed` what became of it.
    `guard_of` gives the guard of a candidate by its place. `shut` are the places that breakers kept it from.
    """

    __slots__ = (
        "_again", "_asked_again", "_budget", "_chance", "_deaf", "_done", "_guard_of", "_late", "_order", "_sent",
        "_tried", "shut",
    )  # fmt: skip

    def __init__(
        self, size: int, guard_of: Callable[[int], Guard], budget: RetryBudget, chance: Callable[[], float]
    ) -> None:
        self.shut: list[int] = []
        self._order = list(range(size))
        self._guard_of = guard_of
        self._budget = budget
        self._chance = chance
        self._done: set[int] = set()
        self._sent = False
        self._tried = False
        self._again: list[int] = []
        self._deaf: set[Breaker] = set()
        self._late: set[int] = set()
        self._asked_again: set[int] = set()

    def next(self, now: float) -> Step | None:
        """The next step, or None when the call has to be told what went wrong."""
        while self._order:
            place = self._order.pop(0)
            if place in self._done:
                continue
            guard = self._guard_of(place)
            if guard.server in self._deaf and place not in self._late:
                self._late.add(place)  # another model on a server that was just not to be reached: last of all
                self._order.append(place)
            elif not guard.allows(now):
                self.shut.append(place)
            elif self._may(guard, now):
                self._tried = True
                return Step(place)
        if not self._tried:
            return self._beside_a_trial()
        while self._again:
            place = self._again.pop(0)
            self._asked_again.add(place)
            if self._guard_of(place).allows(now) and self._budget.take(now):
                return Step(place, back_off(1, self._chance()))
        return None

    def failed(self, place: int, sent: bool, busy: bool = False, deaf: bool = False) -> None:
        """A try has failed. `sent`: the engine had the request, so that more tries are more work; `busy`: the same
        server may well take it in a moment; `deaf`: it could not be reached or said nothing in time."""
        if deaf:
            self._deaf.add(self._guard_of(place).server)
        self._tried = True
        self._done.add(place)
        self._sent = self._sent or sent
        if busy and place not in self._asked_again:
            self._again.append(place)

    def _may(self, guard: Guard, now: float) -> bool:
        if not self._sent:
            return True
        if guard.healthy:
            self._budget.charge(now)
            return True
        return self._budget.take(now)

    def _beside_a_trial(self) -> Step | None:
        """Nobody else can: a server that is just being tried is asked all the same, which beats an error."""
        self._tried = True
        self._order.clear()
        return next((Step(place) for place in self.shut if self._guard_of(place).trying), None)
