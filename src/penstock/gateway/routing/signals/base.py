"""What a routing signal is: one consideration, as a score in [0, 1] for each candidate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from penstock.domain.fleet import Deployment


class Situation(NamedTuple):
    """What a signal may look at beside the deployment: calls running on its server, when it last failed, the time."""

    running: int
    failed_at: float
    now: float


@dataclass(frozen=True, slots=True)
class Signal:
    """`score` is pure; `weight` is how much it counts; `words` says a score to people."""

    name: str
    weight: float
    score: Callable[[Deployment, Situation], float]
    words: Callable[[Deployment, Situation], str]
