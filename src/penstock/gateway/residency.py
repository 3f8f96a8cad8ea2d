"""Which models a server holds in memory, as far as can be told between two looks at it, and whether another one fits.

A server with models on demand (Ollama) loads what it is asked for and throws out what was used longest ago when there
is no room. How much room there is, it does not say; it shows when a model that should still be there is gone.
"""

from collections.abc import Iterable

KEPT = 240.0
"""Seconds for which a model surely stays after its last call; Ollama's own default is 300."""


class Residency:
    """What one server holds. Sizes are bytes; `room` is the least sum that has been seen not to fit."""

    __slots__ = ("_held", "_used", "most", "room")

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._used: dict[str, float] = {}
        self.most = 0
        self.room = 0

    def __contains__(self, model: str) -> bool:
        return model in self._held

    @property
    def held(self) -> tuple[str, ...]:
        """The models, the one used longest ago first."""
        return tuple(sorted(self._held, key=lambda name: self._used.get(name, 0.0)))

    def used(self, model: str, size: int, now: float) -> None:
        """It has answered: it is there; what no longer fits beside it is not."""
        self._used[model] = now
        if model in self._held:
            return
        for other in self.held:
            if self.fits(size):
                break
            del self._held[other]
        self._held[model] = size

    def seen(self, held: Iterable[tuple[str, int]], at: float) -> None:
        """A look at the server found these. What was used just before and is missing had to make room."""
        now = dict(held)
        for name, size in self._held.items():
            if self._used.get(name, 0.0) > at:
                now.setdefault(name, size)  # used since that look
        total = sum(now.values())
        if total > self.most:
            self.most = total
            self.room = self.room if self.room > total else 0
        newest = max((self._used.get(name, 0.0) for name in now), default=0.0)
        for name, size in self._held.items():
            used = self._used.get(name, -KEPT)
            if name not in now and at - used < KEPT and used < newest and total + size > self.most:
                self.room = min(self.room or total + size, total + size)
        self._held = now

    def fits(self, size: int) -> bool:
        """Whether another model of that size finds room beside what is there; True as long as nobody knows better."""
        return not self.room or not self._held or sum(self._held.values()) + size < self.room
