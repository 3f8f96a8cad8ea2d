"""Speed of each model on each server, learned from completed calls."""

import math
from dataclasses import dataclass

from bench.scenarios.policy import CompletedCall, Offer

WEIGHT = 0.2
SLOW_WEIGHT = 0.05


def blend_logarithms(old: float, new: float, weight: float) -> float:
    """Return an exponentially weighted mean of logarithms: times are log-normal, and outliers must not dominate."""
    return math.exp((1 - weight) * math.log(old) + weight * math.log(max(new, 1e-4)))


@dataclass(slots=True)
class LearnedSpeed:
    """Speed of one model on one server: `load` seconds, `prefill` tokens per second, `slot_seconds` per response."""

    load: float
    prefill: float
    slot_seconds: float

    @classmethod
    def estimate(cls, offer: Offer) -> "LearnedSpeed":
        """Estimate the speed before the first call: a disk with 1.5 GB/s, 2,000 prefill tokens/s for a 14B model."""
        size = max(offer.size, 1e8)
        return cls(load=1 + size / 1.5e9, prefill=2000 * min(1.0, 12e9 / size), slot_seconds=4 + size / 4e9)

    def update(self, done: CompletedCall, prompt_tokens: int) -> None:
        if done.load_seconds > 0.1:
            self.load = blend_logarithms(self.load, done.load_seconds, 0.5)
        if prompt_tokens >= 16:
            self.prefill = blend_logarithms(self.prefill, prompt_tokens / max(done.prefill_seconds, 1e-4), WEIGHT)
        slot_time = done.prefill_seconds + done.decode_seconds
        self.slot_seconds += SLOW_WEIGHT * (slot_time - self.slot_seconds)
