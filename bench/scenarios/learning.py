"""What a gateway learns of each model on each server from the calls it sent: seconds to load, tokens a second, and how
long an answer keeps a slot."""

import math
from dataclasses import dataclass

from bench.scenarios.policy import Done, Offer

WEIGHT = 0.2
LONG = 0.05


def mixed(old: float, new: float, weight: float) -> float:
    """An exponentially weighted mean of logarithms: times are log-normal, and one long one must not dominate."""
    return math.exp((1 - weight) * math.log(old) + weight * math.log(max(new, 1e-4)))


@dataclass(slots=True)
class Pace:
    """Of one model on one server: `load` seconds, `prefill` tokens per second, `hold` seconds of a slot per answer."""

    load: float
    prefill: float
    hold: float

    @classmethod
    def guessed(cls, offer: Offer) -> "Pace":
        """Before anything is known: a disk of 1.5 GB/s and a card that reads 2,000 tokens a second of a 14B."""
        size = max(offer.size, 1e8)
        return cls(load=1 + size / 1.5e9, prefill=2000 * min(1.0, 12e9 / size), hold=4 + size / 4e9)

    def learn(self, done: Done, prompt_tokens: int) -> None:
        if done.load_seconds > 0.1:
            self.load = mixed(self.load, done.load_seconds, 0.5)
        if prompt_tokens >= 16:
            self.prefill = mixed(self.prefill, prompt_tokens / max(done.prefill_seconds, 1e-4), WEIGHT)
        held = done.prefill_seconds + done.decode_seconds
        self.hold += LONG * (held - self.hold)
