"""One server as a gateway knows it: what it runs for us, what is loaded as far as can be told, what fits together."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.scenarios.policy import Offer

KEPT = 240.0
"""Seconds for which an engine keeps an idle model in any case; Ollama's own default is 300."""


@dataclass(slots=True)
class Place:
    """`resident` maps models to their last use, the least recently used first. `loading` is the model that a call of
    ours makes it load, since `loading_since`. Those `draining` get no new calls, so that `drained_for` can take their
    room. `roomy` and `tight` are sums of sizes that were seen loaded together, and seen not to fit; `tried` is the sum
    that the last load would have made, had nothing been evicted for it, 0 when that was not to be learnt."""

    name: str
    offers: dict[str, Offer] = field(default_factory=dict)
    up: bool = True
    resident: OrderedDict[str, float] = field(default_factory=OrderedDict)
    running: Counter[str] = field(default_factory=Counter)
    loading: str = ""
    loading_since: float = 0.0
    draining: tuple[str, ...] = ()
    drained_for: str = ""
    roomy: float = 0.0
    tight: float = float("inf")
    tried: float = 0.0

    def open_to(self, model: str) -> bool:
        """Whether calls for it can be sent without a swap, and it is not to go."""
        return model == self.loading or (model in self.resident and model not in self.draining)

    def free(self, model: str) -> bool:
        """Whether a slot of it is free."""
        return self.running[model] < self.offers[model].slots

    def size(self) -> float:
        return sum(self.offers[model].size for model in self.resident)

    def fits(self, model: str) -> bool:
        """Whether it can be loaded beside what is there; yes as long as nothing speaks against."""
        return self.size() + self.offers[model].size < self.tight

    def victims(self, model: str) -> tuple[str, ...] | None:
        """Who would be evicted for it, in the engine's order; None while models at work are in the way."""
        room = self.tight - self.size()
        gone: list[str] = []
        for other in self.resident:
            if room > self.offers[model].size:
                break
            if not self.running[other]:
                gone.append(other)
                room += self.offers[other].size
        return tuple(gone) if room > self.offers[model].size or len(gone) == len(self.resident) else None

    def in_the_way(self, model: str, cost: Callable[[str], float]) -> tuple[str, ...]:
        """The cheapest models at work that must become idle to make room for it."""
        busy = sorted((other for other in self.resident if self.running[other]), key=cost)
        room = self.tight - sum(self.offers[other].size for other in busy)
        gone: list[str] = []
        for other in busy:
            if room > self.offers[model].size:
                break
            gone.append(other)
            room += self.offers[other].size
        return tuple(gone)

    def load(self, model: str, victims: tuple[str, ...], now: float) -> None:
        """A call for it is being sent though it is not loaded."""
        self.tried = 0.0 if victims else self.size() + self.offers[model].size
        for victim in victims:
            del self.resident[victim]
        self.loading, self.loading_since = model, now
        self.stop_draining()

    def spoke(self, model: str, now: float) -> None:
        """It has sent a token, so it is loaded."""
        if self.loading == model:
            self.loading = ""
        self.resident[model] = now

    def used(self, model: str, now: float) -> None:
        self.resident[model] = now
        self.resident.move_to_end(model)

    def look(self, resident: tuple[str, ...], now: float) -> None:
        """What the server says is loaded. Who has gone after another came tells that they do not fit together."""
        for model in resident:
            self.resident.setdefault(model, now)
        gone = [model for model in self.resident if model not in resident and model != self.loading]
        forced = any(now - self.resident[model] < KEPT for model in gone)
        for model in gone:
            del self.resident[model]
        self.roomy = max(self.roomy, self.size())
        if self.tight <= self.roomy:
            self.tight = float("inf")
        if self.tried and forced and self.tried > self.roomy:
            self.tight = min(self.tight, self.tried)
        if not self.loading:
            self.tried = 0.0

    def lose(self) -> None:
        """It is down; what was loaded is gone."""
        self.up = False
        self.resident.clear()
        self.loading = ""
        self.tried = 0.0
        self.stop_draining()

    def stop_draining(self) -> None:
        self.draining, self.drained_for = (), ""
