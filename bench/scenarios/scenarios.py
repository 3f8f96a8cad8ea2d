"""The days that are run: which machines, which traffic, which faults."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.scenarios.calls import HOUR, MIXED, OFFICE, Day
from bench.scenarios.fleet import Machine, laptop, remote, two_gpus

Names = tuple[tuple[str, float], ...]
USUAL: Names = (("gemma3:12b", 0.45), ("qwen2.5-coder:14b", 0.25), ("llama3.3:70b", 0.15), ("qwen3:14b", 0.15))
EVENLY: Names = tuple((name, 1.0) for name, _ in USUAL)
ON_TWO: Names = (("gemma3:12b", 0.4), ("qwen2.5-coder:14b", 0.4), ("qwen3:14b", 0.2))


@dataclass(frozen=True, slots=True)
class Scenario:
    """`about` says in a sentence what it shows. `bounded` is False where no plan is searched: it is too long, or
    servers die in it."""

    about: str
    machines: Callable[[], tuple[Machine, ...]]
    day: Day
    bounded: bool = True


def _strong_and_laptop() -> tuple[Machine, ...]:
    return remote(), laptop()


def _failing() -> tuple[Machine, ...]:
    """The strong server is away for ten minutes in the morning and five in the afternoon, the laptop at noon."""
    spans = ((10.5 * HOUR, 10.5 * HOUR + 600), (15 * HOUR, 15 * HOUR + 300))
    return remote(spans), replace(laptop(), away=((12.5 * HOUR, 12.5 * HOUR + 900),))


MIXED_DAY = Day(3000, MIXED, USUAL)

SCENARIOS = {
    "mixed-day": Scenario(
        "a GPU server (3× RTX 3090) and a laptop, 25 people, office hours, bursts; one talk in eight names its model",
        _strong_and_laptop,
        MIXED_DAY,
    ),
    "two-gpus": Scenario(
        "two GPUs of 24 GB with the same models on their disks, two of which fit at a time",
        two_gpus,
        Day(3000, OFFICE, ON_TWO),
    ),
    "own-mind": Scenario(
        "the mixed day, but three talks in five name a model, all models alike",
        _strong_and_laptop,
        replace(MIXED_DAY, names=EVENLY, named=0.6),
    ),
    "rush": Scenario(
        "three times the calls of the mixed day, three in five naming a model: more swaps than there is time for",
        _strong_and_laptop,
        replace(MIXED_DAY, calls=9000, users=60, names=EVENLY, named=0.6),
        bounded=False,
    ),
    "failures": Scenario(
        "the mixed day, while the servers die and return",
        _failing,
        MIXED_DAY,
        bounded=False,
    ),
}
