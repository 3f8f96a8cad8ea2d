"""Which models a server holds in memory, as far as can be told between two looks at it, and whether another one fits.

A server with models on demand (Ollama) loads what it is asked for and throws out what was used longest ago when there
is no room. How much room there is, it does not say; it shows when a model that should still be there is gone.
"""

from collections.abc import Container, Iterable, Mapping

KEPT = 240.0
"""Seconds for which a model surely stays after its last call; Ollama's own default is 300."""


class Residency:
    """What one server holds: `models` and their sizes in bytes. `room` is the least sum that has been seen not to fit,
    `most` the greatest that did. Sizes that callers tell are those on disk, until a look has shown the one in memory.
    """

    __slots__ = ("_seen", "_sizes", "_used", "models", "most", "room")

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
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
            if self.fits(model, size):
                break
            del self.models[other]
        self.models[model] = self._sizes.get(model, size)

    def seen(self, held: Iterable[tuple[str, int]], at: float, busy: Container[str] = ()) -> None:
        """A look at the server found these. What was used just before and is missing had to make room.

        What is `busy`, or was asked since, and is not there yet is being loaded: it counts as there.
        """
        now = dict(held)
        self._sizes.update(now)
        fitted = sum(now.values())
        if fitted > self.most:
            self.most = fitted
            self.room = self.room if self.room > fitted else 0
        coming = {
            name: size
            for name, size in self.models.items()
            if name not in now and (name in busy or self._used.get(name, 0.0) > at)
        }
        self._learn(now, coming, at)
        self._seen = now
        self.models = dict(now)
        for name, size in coming.items():  # more than fits may be asked of it, but not be there
            if self.fits(name, size):
                self.models[name] = size

    def _learn(self, now: Mapping[str, int], coming: Mapping[str, int], at: float) -> None:
        """Of what is gone though it was used: it did not fit beside what is there and the one that is being loaded."""
        newest = max((self._used.get(name, 0.0) for name in (*now, *coming)), default=0.0)
        for name, size in (self._seen | self.models).items():
            used = self._used.get(name, -KEPT)
            if name in now or at - used >= KEPT or not now:
                continue
            if name in self._seen or (name not in coming and used < newest):
                over = sum(now.values()) + size + max((coming[c] for c in coming if c != name), default=0)
                if over > self.most:
                    self.room = min(self.room or over, over)

    def fits(self, model: str, size: int, busy: Container[str] | None = None) -> bool:
        """Whether another model finds room; True as long as nobody knows better.

        With `busy` the models that are not in it may be thrown out for that.
        """
        if not self.room or not self.models:
            return True
        taken = sum(held for name, held in self.models.items() if busy is None or name in busy)
        return not taken or taken + self._sizes.get(model, size) < self.room
