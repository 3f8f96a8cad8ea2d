"""Which models a server holds in memory, as far as can be told between two looks at it, and whether another one fits.

A server with models on demand (Ollama) loads what it is asked for and throws out what was used longest ago when there
is no room. How much room there is, it does not say; it shows when a model that should still be there is gone.
"""

from collections.abc import Container, Iterable, Mapping

KEEP_ALIVE_SECONDS = 240.0
"""Seconds for which a model surely stays after its last call; Ollama's own default is 300."""


class Residency:
    """Estimate of the models in one server's memory.

    `models` are their names and sizes in bytes. `smallest_overflow` is the smallest total that was observed not to fit
    (0: none was), `largest_fit` the largest total that did. A model's size is that of its file until a probe has
    reported its size in memory.
    """

    __slots__ = ("_last_reported", "_reported_sizes", "_touched_at", "largest_fit", "models", "smallest_overflow")

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self._last_reported: dict[str, int] = {}
        self._reported_sizes: dict[str, int] = {}
        self._touched_at: dict[str, float] = {}
        self.largest_fit = 0
        self.smallest_overflow = 0

    def touch(self, model: str, size: int, now: float, busy: Container[str] = ()) -> None:
        """It is asked: it is there, or comes; of the others, those that no longer fit beside it go, idle ones first."""
        self._touched_at[model] = now
        if model in self.models:
            return
        held = sorted(self.models, key=lambda name: (name in busy, self._touched_at.get(name, 0.0)))
        for other in held:
            if self.can_fit(model, size):
                break
            del self.models[other]
        self.models[model] = self._reported_sizes.get(model, size)

    def reconcile(self, loaded: Iterable[tuple[str, int]], checked_at: float, busy: Container[str] = ()) -> None:
        """A look at the server found these. What was used just before and is missing had to make room.

        What is `busy`, or was asked since, and is not there yet is being loaded: it counts as there.
        """
        now = dict(loaded)
        self._reported_sizes.update(now)
        fitted = sum(now.values())
        if fitted > self.largest_fit:
            self.largest_fit = fitted
            self.smallest_overflow = self.smallest_overflow if self.smallest_overflow > fitted else 0
        coming = {
            name: size
            for name, size in self.models.items()
            if name not in now and (name in busy or self._touched_at.get(name, 0.0) > checked_at)
        }
        self._lower_overflow(now, coming, checked_at)
        self._last_reported = now
        self.models = dict(now)
        for name, size in coming.items():  # more than fits may be asked of it, but not be there
            if self.can_fit(name, size):
                self.models[name] = size

    def _lower_overflow(self, now: Mapping[str, int], coming: Mapping[str, int], at: float) -> None:
        """Of what is gone though it was used: it did not fit beside what is there and the one that is being loaded."""
        newest = max((self._touched_at.get(name, 0.0) for name in (*now, *coming)), default=0.0)
        for name, size in (self._last_reported | self.models).items():
            used = self._touched_at.get(name, -KEEP_ALIVE_SECONDS)
            if name in now or at - used >= KEEP_ALIVE_SECONDS or not now:
                continue
            if name in self._last_reported or (name not in coming and used < newest):
                over = sum(now.values()) + size + max((coming[c] for c in coming if c != name), default=0)
                if over > self.largest_fit:
                    self.smallest_overflow = min(self.smallest_overflow or over, over)

    def can_fit(self, model: str, size: int, busy: Container[str] | None = None) -> bool:
        """Whether another model finds room; True as long as nobody knows better.

        With `busy` the models that are not in it may be thrown out for that.
        """
        if not self.smallest_overflow or not self.models:
            return True
        taken = sum(held for name, held in self.models.items() if busy is None or name in busy)
        return not taken or taken + self._reported_sizes.get(model, size) < self.smallest_overflow
