"""Which models a server holds in memory, as far as can be told between two looks at it, and whether another one fits.

A server with models on demand (Ollama) loads what it is asked for and throws out what was used longest ago when there
is no room. How much room there is, it does not say; it shows when a model that should still be there is gone.
"""

from collections.abc import Container, Iterable

KEPT = 240.0
"""Seconds for which a model surely stays after its last call; Ollama's own default is 300."""


class Residency:
    """What one server holds: `models` and their sizes in bytes. `room` is the least sum that has been seen not to fit,
    `most` the greatest that did."""

    __slots__ = ("_used", "models", "most", "room")

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self._used: dict[str, float] = {}
        self.most = 0
        self.room = 0

    def used(self, model: str, size: int, now: float, busy: Container[str] = ()) -> None:
        """It is asked: it is there, or comes; of the others, those that no longer fit beside it go, idle ones first."""
        self._used[model] = now
        if model in self.models:
            return
        held = sorted(self.models, key=lambda name: (name in busy, self._used.get(name, 0.0)))
        for other in held:
            if self.fits(size):
                break
            del self.models[other]
        self.models[model] = size

    def seen(self, held: Iterable[tuple[str, int]], at: float) -> None:
        """A look at the server found these. What was used just before and is missing had to make room."""
        now = dict(held)
        for name, size in self.models.items():
            if self._used.get(name, 0.0) > at:
                now.setdefault(name, size)  # used since that look
        total = sum(now.values())
        if total > self.most:
            self.most = total
            self.room = self.room if self.room > total else 0
        newest = max((self._used.get(name, 0.0) for name in now), default=0.0)
        for name, size in self.models.items():
            used = self._used.get(name, -KEPT)
            if name not in now and at - used < KEPT and used < newest and total + size > self.most:
                self.room = min(self.room or total + size, total + size)
        self.models = now

    def fits(self, size: int, busy: Container[str] | None = None) -> bool:
        """Whether another model of that size finds room; True as long as nobody knows better.

        With `busy` the models that are not in it may be thrown out for that.
        """
        if not self.room or not self.models:
            return True
        return sum(held for name, held in self.models.items() if busy is None or name in busy) + size < self.room
