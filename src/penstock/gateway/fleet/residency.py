"""Residency: an estimate of the models in a server's memory between two probes, and whether another one fits.

A server with models on demand (Ollama) loads the model that a call needs and evicts the one used least recently when
memory is short. It does not report how much memory it has; a model that is gone although it was used recently shows
that the others and it did not fit together.
"""

from collections.abc import Container, Iterable, Mapping

KEEP_ALIVE_SECONDS = 240.0
"""Time for which a model stays loaded after its last call, unless it is evicted. Ollama's default is 300."""


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
        """Mark `model` as loaded and evict models that no longer fit, idle ones first."""
        self._touched_at[model] = now
        if model in self.models:
            return
        eviction_order = sorted(self.models, key=lambda name: (name in busy, self._touched_at.get(name, 0.0)))
        for other in eviction_order:
            if self.can_fit(model, size):
                break
            del self.models[other]
        self.models[model] = self._reported_sizes.get(model, size)

    def reconcile(self, loaded: Iterable[tuple[str, int]], checked_at: float, busy: Container[str] = ()) -> None:
        """Replace the estimate by a probe's report of loaded models and their sizes.

        A model that was used shortly before and is missing was evicted. A missing model that is `busy`, or was touched
        after the probe, is being loaded: it counts as loaded if it fits.
        """
        reported = dict(loaded)
        self._reported_sizes.update(reported)
        total = sum(reported.values())
        if total > self.largest_fit:
            self.largest_fit = total
            if self.smallest_overflow <= total:
                self.smallest_overflow = 0
        loading = {
            name: size
            for name, size in self.models.items()
            if name not in reported and (name in busy or self._touched_at.get(name, 0.0) > checked_at)
        }
        self._lower_overflow(reported, loading, checked_at)
        self._last_reported = reported
        self.models = dict(reported)
        for name, size in loading.items():  # calls may want more models than fit
            if self.can_fit(name, size):
                self.models[name] = size

    def _lower_overflow(self, reported: Mapping[str, int], loading: Mapping[str, int], checked_at: float) -> None:
        """Lower the memory estimate: a recently used model that was evicted did not fit with the others."""
        newest = max((self._touched_at.get(name, 0.0) for name in (*reported, *loading)), default=0.0)
        for name, size in (self._last_reported | self.models).items():
            touched_at = self._touched_at.get(name, -KEEP_ALIVE_SECONDS)
            if name in reported or checked_at - touched_at >= KEEP_ALIVE_SECONDS or not reported:
                continue
            if name in self._last_reported or (name not in loading and touched_at < newest):
                largest_loading = max((loading[other] for other in loading if other != name), default=0)
                overflow = sum(reported.values()) + size + largest_loading
                if overflow > self.largest_fit:
                    self.smallest_overflow = min(self.smallest_overflow or overflow, overflow)

    def can_fit(self, model: str, size: int, busy: Container[str] | None = None) -> bool:
        """Return whether another model fits; True as long as no overflow was observed.

        With `busy`, all models that are not in it may be evicted.
        """
        if not self.smallest_overflow or not self.models:
            return True
        used = sum(other for name, other in self.models.items() if busy is None or name in busy)
        return not used or used + self._reported_sizes.get(model, size) < self.smallest_overflow
