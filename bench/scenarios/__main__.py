"""Runs days of a fleet in virtual time under several policies, and prints what people waited for.

    bench/scenarios/run.py [--scenario mixed-day] [--policies ours,round-robin] [--seeds 1-5] [--search 3] [--no-save]

Without --no-save the tables are appended to RESULTS.md, and the plots beside it are replaced.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.scenarios import plots
from bench.scenarios.baselines import FirstCome, LeastConnections, RandomOfTwo, RoundRobin
from bench.scenarios.calls import generate
from bench.scenarios.clairvoyant import Search, mean_floor, plan_of, replayed, waited
from bench.scenarios.figures import HEAD, Figures, figures, levels_table, row
from bench.scenarios.ours import Ours
from bench.scenarios.policy import Policy
from bench.scenarios.reference import Reference
from bench.scenarios.scenarios import SCENARIOS, Scenario
from bench.scenarios.world import Outcome, World

HERE = Path(__file__).parent
BOUND = "clairvoyant"
POLICIES: dict[str, Callable[[], Policy]] = {
    "ours": Ours,
    "reference": Reference,
    "first come": FirstCome,
    "round robin": RoundRobin,
    "least connections": LeastConnections,
    "random of two": RandomOfTwo,
}


@dataclass(slots=True)
class Runs:
    """All days of one scenario: figures and waits by policy, and the floor of each seed."""

    figures: dict[str, list[Figures]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    floors: list[float] = field(default_factory=list)

    def add(self, policy: str, outcome: Outcome) -> None:
        self.figures.setdefault(policy, []).append(figures(outcome))
        self.waits.setdefault(policy, []).extend(story.ttft for story in outcome.stories if not story.error)

    def forget(self, policy: str) -> None:
        """It broke on some day, so that its other days say little."""
        self.figures.pop(policy, None)
        self.waits.pop(policy, None)

    def mean(self, policy: str) -> float:
        return statistics.fmean(day.mean for day in self.figures[policy])


def days(scenario: Scenario, policies: list[str], seeds: list[int], search: int) -> Runs:
    """Every policy on every seed; `search` rounds of looking for a better plan than the best of them."""
    runs = Runs()
    for seed in seeds:
        calls, machines = generate(scenario.day, seed), scenario.machines()
        runs.floors.append(mean_floor(calls, machines))
        outcomes = {}
        for name in list(policies):
            try:
                outcomes[name] = World(machines, calls, POLICIES[name]()).run()
            except (LookupError, RuntimeError) as error:
                print(f"seed {seed}: {name} is left out: it broke: {error!r}", flush=True)
                policies.remove(name)
                runs.forget(name)
        if search and scenario.bounded:
            best = min(outcomes.values(), key=waited)
            plan = Search(machines, calls, plan_of(best), seed)
            plan.improve(search, tries=150)
            outcomes[BOUND] = replayed(machines, calls, plan.plan)
        for name, outcome in outcomes.items():
            runs.add(name, outcome)
        print(f"seed {seed}: " + ", ".join(f"{n} {runs.figures[n][-1].mean:.2f}" for n in outcomes), flush=True)
    return runs


def tables(name: str, scenario: Scenario, runs: Runs, seeds: list[int]) -> str:
    """What RESULTS.md gets of one scenario."""
    best = min(runs.mean(policy) for policy in runs.figures)
    floor = statistics.fmean(runs.floors)
    calls = statistics.fmean(day.calls for day in next(iter(runs.figures.values())))
    lines = [f"### {name}", "", f"{scenario.about[0].upper()}{scenario.about[1:]}. {calls:.0f} calls a day,"]
    lines += [f"seeds {', '.join(map(str, seeds))}. No schedule is below {floor:.2f} s (proven floor).", "", HEAD]
    lines += [row(policy, each, best) for policy, each in runs.figures.items()]
    lines += ["", "Mean time to first token by level, of calls that name no model:", "", levels_table(runs.figures)]
    return "\n".join(lines) + "\n"


def numbers(text: str) -> list[int]:
    """`3`, `1-5` or `1,4`."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]


def names(text: str, known: dict[str, object], what: str) -> list[str]:
    """Those asked for, all without; a dash stands for a space too."""
    spelled = {name.replace(" ", "-"): name for name in known}
    asked = [word.strip().replace(" ", "-") for word in text.split(",") if word.strip()] or list(spelled)
    if unknown := [word for word in asked if word not in spelled]:
        sys.exit(f"no {what} called {', '.join(unknown)}; there are {', '.join(spelled)}")
    return [spelled[word] for word in asked]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="", metavar="NAMES", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--policies", default="", metavar="NAMES", help=f"of {', '.join(POLICIES)} (default: all)")
    parser.add_argument("--seeds", "--seed", default="1-5", help="days to run: 1-5, 3 or 1,4 (default 1-5)")
    parser.add_argument("--search", type=int, default=3, help="rounds of the clairvoyant's search; 0: leave it out")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md and the plots as they are")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    seeds, policies = numbers(options.seeds), names(options.policies, dict(POLICIES), "policy")
    parts, begin = [], time.perf_counter()
    for name in names(options.scenario, dict(SCENARIOS), "scenario"):
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.about}", flush=True)
        runs = days(scenario, list(policies), seeds, options.search)
        parts.append(tables(name, scenario, runs, seeds))
        print(parts[-1], flush=True)
        if not options.no_save and not plots.missing():
            swaps = {policy: statistics.fmean(day.swaps for day in each) for policy, each in runs.figures.items()}
            plots.draw(name, scenario.about, runs.waits, swaps, HERE)
            parts[-1] += f"\n![{name}]({name}.svg)\n"
    if plots.missing():
        print(plots.missing())
    if not options.no_save:
        when = f"\n## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n"
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as results:
            results.write(when + "\n".join(parts))
    print(f"took {time.perf_counter() - begin:.0f} s")
    return 0


sys.exit(main())
