"""Run days of a fleet in virtual time under several policies and print the latencies.

    bench/scenarios/run.py [--scenario mixed-day] [--policies ours,round-robin] [--seeds 1-5] [--search 3] [--no-save]

Without --no-save the tables are appended to RESULTS.md and its plots are replaced.
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
from bench.scenarios.calls import generate_calls
from bench.scenarios.clairvoyant import Search, extract_plan, mean_lower_bound, run_plan, total_wait
from bench.scenarios.ours import GatewayPolicy
from bench.scenarios.policy import Policy
from bench.scenarios.reference import Reference
from bench.scenarios.scenarios import SCENARIOS, Scenario
from bench.scenarios.summary import HEAD, DaySummary, format_levels, format_row, summarize_day
from bench.scenarios.world import DayResult, World

HERE = Path(__file__).parent
BOUND = "clairvoyant"
POLICIES: dict[str, Callable[[], Policy]] = {
    "ours": GatewayPolicy,
    "reference": Reference,
    "first come": FirstCome,
    "round robin": RoundRobin,
    "least connections": LeastConnections,
    "random of two": RandomOfTwo,
}


@dataclass(slots=True)
class ScenarioResult:
    """All days of one scenario: summaries and latencies by policy, and the lower bound of each seed."""

    summaries: dict[str, list[DaySummary]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    lower_bounds: list[float] = field(default_factory=list)

    def add_day(self, policy: str, outcome: DayResult) -> None:
        self.summaries.setdefault(policy, []).append(summarize_day(outcome))
        self.waits.setdefault(policy, []).extend(record.ttft for record in outcome.records if not record.error)

    def drop_policy(self, policy: str) -> None:
        """Remove a policy that failed on some day, because its other days are not comparable."""
        self.summaries.pop(policy, None)
        self.waits.pop(policy, None)

    def mean_wait(self, policy: str) -> float:
        return statistics.fmean(day.mean for day in self.summaries[policy])


def run_days(scenario: Scenario, policies: list[str], seeds: list[int], search: int) -> ScenarioResult:
    """Run every policy on every seed, then `search` rounds that improve on the best policy's plan."""
    runs = ScenarioResult()
    for seed in seeds:
        calls, machines = generate_calls(scenario.day, seed), scenario.machines()
        runs.lower_bounds.append(mean_lower_bound(calls, machines))
        outcomes = {}
        for name in list(policies):
            try:
                outcomes[name] = World(machines, calls, POLICIES[name]()).run()
            except (LookupError, RuntimeError) as error:
                print(f"seed {seed}: {name} failed and is left out: {error!r}", flush=True)
                policies.remove(name)
                runs.drop_policy(name)
        if search and scenario.bounded:
            best = min(outcomes.values(), key=total_wait)
            plan = Search(machines, calls, extract_plan(best), seed)
            plan.improve_plan(search, tries=150)
            outcomes[BOUND] = run_plan(machines, calls, plan.plan)
        for name, outcome in outcomes.items():
            runs.add_day(name, outcome)
        print(f"seed {seed}: " + ", ".join(f"{n} {runs.summaries[n][-1].mean:.2f}" for n in outcomes), flush=True)
    return runs


def format_tables(name: str, scenario: Scenario, runs: ScenarioResult, seeds: list[int]) -> str:
    """Format the entry of one scenario in RESULTS.md."""
    best = min(runs.mean_wait(policy) for policy in runs.summaries)
    floor = statistics.fmean(runs.lower_bounds)
    calls = statistics.fmean(day.calls for day in next(iter(runs.summaries.values())))
    lines = [f"### {name}", "", f"{scenario.about[0].upper()}{scenario.about[1:]}. {calls:.0f} calls a day,"]
    lines += [f"seeds {', '.join(map(str, seeds))}. No schedule is below {floor:.2f} s (proven floor).", "", HEAD]
    lines += [format_row(policy, each, best) for policy, each in runs.summaries.items()]
    lines += ["", "Mean time to first token by level, of calls that name no model:", "", format_levels(runs.summaries)]
    return "\n".join(lines) + "\n"


def parse_numbers(text: str) -> list[int]:
    """Parse `3`, `1-5` or `1,4`."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]


def parse_names(text: str, known: dict[str, object], label: str) -> list[str]:
    """Parse a list of names, empty for all; a dash may replace a space."""
    spellings = {name.replace(" ", "-"): name for name in known}
    requested = [word.strip().replace(" ", "-") for word in text.split(",") if word.strip()] or list(spellings)
    if unknown := [word for word in requested if word not in spellings]:
        sys.exit(f"no {label} called {', '.join(unknown)}; there are {', '.join(spellings)}")
    return [spellings[word] for word in requested]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="", metavar="NAMES", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--policies", default="", metavar="NAMES", help=f"of {', '.join(POLICIES)} (default: all)")
    parser.add_argument("--seeds", "--seed", default="1-5", help="days to run: 1-5, 3 or 1,4 (default 1-5)")
    parser.add_argument("--search", type=int, default=3, help="rounds of the clairvoyant's search; 0: leave it out")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md and the plots as they are")
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    seeds, policies = parse_numbers(options.seeds), parse_names(options.policies, dict(POLICIES), "policy")
    parts, begin = [], time.perf_counter()
    for name in parse_names(options.scenario, dict(SCENARIOS), "scenario"):
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.about}", flush=True)
        runs = run_days(scenario, list(policies), seeds, options.search)
        parts.append(format_tables(name, scenario, runs, seeds))
        print(parts[-1], flush=True)
        if not options.no_save and not plots.explain_missing():
            swaps = {policy: statistics.fmean(day.swaps for day in each) for policy, each in runs.summaries.items()}
            plots.save_plot(name, scenario.about, runs.waits, swaps, HERE)
            parts[-1] += f"\n![{name}]({name}.svg)\n"
    if plots.explain_missing():
        print(plots.explain_missing())
    if not options.no_save:
        when = f"\n## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n"
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as results:
            results.write(when + "\n".join(parts))
    print(f"took {time.perf_counter() - begin:.0f} s")
    return 0


sys.exit(main())
