"""A server as a gateway sees it: its running calls, the models that are probably loaded, and what fits together."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.scenarios.policy import Offer

KEEP_ALIVE_SECONDS = 240.0
"""A server keeps an idle model at least this long; Ollama's default is 300."""


@dataclass(slots=True)
class ServerView:
    """State of a server.

    `resident` maps models to their last use, least recently used first. `loading` is the model that a call makes it
    load, since `loading_since`. `draining` models get no new calls, so that `drained_for` can take their memory.
    `known_to_fit` and `known_not_to_fit` are sums of sizes that were seen loaded together, and seen not to fit.
    `attempted_size` is the sum after the last load without evictions, 0 if it teaches nothing.
    """

    name: str
    offers: dict[str, Offer] = field(default_factory=dict)
    is_up: bool = True
    resident: OrderedDict[str, float] = field(default_factory=OrderedDict)
    running: Counter[str] = field(default_factory=Counter)
    loading: str = ""
    loading_since: float = 0.0
    draining: tuple[str, ...] = ()
    drained_for: str = ""
    known_to_fit: float = 0.0
    known_not_to_fit: float = float("inf")
    attempted_size: float = 0.0

    def accepts_calls(self, model: str) -> bool:
        """Return whether calls can be sent without a swap and the model is not draining."""
        return model == self.loading or (model in self.resident and model not in self.draining)

    def has_free_slot(self, model: str) -> bool:
        """Return whether the model has a free slot."""
        return self.running[model] < self.offers[model].slots

    def loaded_size(self) -> float:
        return sum(self.offers[model].size for model in self.resident)

    def fits(self, model: str) -> bool:
        """Return whether the model fits beside the loaded ones, as far as is known."""
        return self.loaded_size() + self.offers[model].size < self.known_not_to_fit

    def find_victims(self, model: str) -> tuple[str, ...] | None:
        """Return the models that the server would evict, in its order; None while busy models prevent loading."""
        room = self.known_not_to_fit - self.loaded_size()
        victims: list[str] = []
        for other in self.resident:
            if room > self.offers[model].size:
                break
            if not self.running[other]:
                victims.append(other)
                room += self.offers[other].size
        return tuple(victims) if room > self.offers[model].size or len(victims) == len(self.resident) else None

    def find_blockers(self, model: str, cost: Callable[[str], float]) -> tuple[str, ...]:
        """Return the cheapest busy models that must become idle to make room."""
        busy = sorted((other for other in self.resident if self.running[other]), key=cost)
        room = self.known_not_to_fit - sum(self.offers[other].size for other in busy)
        victims: list[str] = []
        for other in busy:
            if room > self.offers[model].size:
                break
            victims.append(other)
            room += self.offers[other].size
        return tuple(victims)

    def start_loading(self, model: str, victims: tuple[str, ...], now: float) -> None:
        """Record that a call for a model that is not loaded is being sent."""
        self.attempted_size = 0.0 if victims else self.loaded_size() + self.offers[model].size
        for victim in victims:
            del self.resident[victim]
        self.loading, self.loading_since = model, now
        self.stop_draining()

    def finish_loading(self, model: str, now: float) -> None:
        """Record a token of the model, which means that it is loaded."""
        if self.loading == model:
            self.loading = ""
        self.resident[model] = now

    def mark_used(self, model: str, now: float) -> None:
        self.resident[model] = now
        self.resident.move_to_end(model)

    def reconcile(self, resident: tuple[str, ...], now: float) -> None:
        """Update the loaded models from a probe. A recently used model that is gone did not fit beside the new one."""
        for model in resident:
            self.resident.setdefault(model, now)
        evicted = [model for model in self.resident if model not in resident and model != self.loading]
        is_forced = any(now - self.resident[model] < KEEP_ALIVE_SECONDS for model in evicted)
        for model in evicted:
            del self.resident[model]
        self.known_to_fit = max(self.known_to_fit, self.loaded_size())
        if self.known_not_to_fit <= self.known_to_fit:
            self.known_not_to_fit = float("inf")
        if self.attempted_size and is_forced and self.attempted_size > self.known_to_fit:
            self.known_not_to_fit = min(self.known_not_to_fit, self.attempted_size)
        if not self.loading:
            self.attempted_size = 0.0

    def mark_down(self) -> None:
        """Record that the server is down and has lost its models."""
        self.is_up = False
        self.resident.clear()
        self.loading = ""
        self.attempted_size = 0.0
        self.stop_draining()

    def stop_draining(self) -> None:
        self.draining, self.drained_for = (), ""
