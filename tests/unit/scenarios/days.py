"""Short, busy days for tests, different for each seed."""

from dataclasses import replace

from bench.scenarios.calls import HOUR, Call, generate_calls
from bench.scenarios.fleet import Machine
from bench.scenarios.scenarios import SCENARIOS


def short_day(name: str, seed: int, calls: int = 120) -> tuple[tuple[Machine, ...], tuple[Call, ...]]:
    """Return machines and calls of a scenario's morning, about `calls` in number."""
    scenario = SCENARIOS[name]
    day = replace(scenario.day, calls=calls, burst_count=2, burst_size=8, hours=11.0)
    found = generate_calls(day, seed)
    assert all(call.visible.arrived_at < 24 * HOUR for call in found)
    return scenario.machines(), found
