"""Scenarios: machines, traffic and faults."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.scenarios.calls import HOUR, MIXED, OFFICE, Day
from bench.scenarios.fleet import Machine, build_laptop, build_remote, build_two_gpus

Names = tuple[tuple[str, float], ...]
USUAL: Names = (("gemma3:12b", 0.45), ("qwen2.5-coder:14b", 0.25), ("llama3.3:70b", 0.15), ("qwen3:14b", 0.15))
EVENLY: Names = tuple((name, 1.0) for name, _ in USUAL)
ON_TWO: Names = (("gemma3:12b", 0.4), ("qwen2.5-coder:14b", 0.4), ("qwen3:14b", 0.2))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Scenario with a description. `bounded` is False if no plan is searched: the day is too long, or servers fail."""

    about: str
    machines: Callable[[], tuple[Machine, ...]]
    day: Day
    bounded: bool = True


def _strong_and_laptop() -> tuple[Machine, ...]:
    return build_remote(), build_laptop()


def _failing() -> tuple[Machine, ...]:
    """Build the machines: the GPU server is down in the morning and afternoon, the laptop at noon."""
    spans = ((10.5 * HOUR, 10.5 * HOUR + 600), (15 * HOUR, 15 * HOUR + 300))
    return build_remote(spans), replace(build_laptop(), downtimes=((12.5 * HOUR, 12.5 * HOUR + 900),))


MIXED_DAY = Day(3000, MIXED, USUAL)

SCENARIOS = {
    "mixed-day": Scenario(
        "a GPU server (3× RTX 3090) and a laptop, 25 people, office hours, bursts; one talk in eight names its model",
        _strong_and_laptop,
        MIXED_DAY,
    ),
    "two-gpus": Scenario(
        "two GPUs of 24 GB with the same models on their disks, two of which fit at a time",
        build_two_gpus,
        Day(3000, OFFICE, ON_TWO),
    ),
    "own-mind": Scenario(
        "the mixed day, but three talks in five name a model, all models alike",
        _strong_and_laptop,
        replace(MIXED_DAY, named_models=EVENLY, named_share=0.6),
    ),
    "rush": Scenario(
        "three times the calls of the mixed day, three in five naming a model: more swaps than there is time for",
        _strong_and_laptop,
        replace(MIXED_DAY, calls=9000, users=60, named_models=EVENLY, named_share=0.6),
        bounded=False,
    ),
    "failures": Scenario(
        "the mixed day, while the servers die and return",
        _failing,
        MIXED_DAY,
        bounded=False,
    ),
}
