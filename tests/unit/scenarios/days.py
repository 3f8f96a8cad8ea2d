"""Small days for tests: short, busy, and different for every seed."""

from dataclasses import replace

from bench.scenarios.calls import HOUR, Call, generate
from bench.scenarios.fleet import Machine
from bench.scenarios.scenarios import SCENARIOS


def short_day(name: str, seed: int, calls: int = 120) -> tuple[tuple[Machine, ...], tuple[Call, ...]]:
    """A morning of a scenario with about so many calls."""
    scenario = SCENARIOS[name]
    day = replace(scenario.day, calls=calls, bursts=2, burst=8, hours=11.0)
    found = generate(day, seed)
    assert all(call.seen.arrived < 24 * HOUR for call in found)
    return scenario.machines(), found
