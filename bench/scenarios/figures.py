"""From days to numbers, and from numbers to tables."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.scenarios.world import Outcome, Story

from penstock.domain.complexity import Level


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one day under one policy; seconds. `levels` are means by level of those calls that name no model."""

    calls: int
    mean: float
    p50: float
    p95: float
    p99: float
    total: float
    swaps: int
    loads: int
    errors: int
    levels: tuple[float, ...] = ()


def figures(outcome: Outcome) -> Figures:
    """Errors are counted and left out of the times."""
    good = [story for story in outcome.stories if not story.error]
    waits = sorted(story.ttft for story in good)
    return Figures(
        calls=len(outcome.stories),
        mean=statistics.fmean(waits),
        p50=quantile(waits, 0.50),
        p95=quantile(waits, 0.95),
        p99=quantile(waits, 0.99),
        total=statistics.fmean(story.total for story in good),
        swaps=outcome.swaps,
        loads=outcome.loads,
        errors=len(outcome.stories) - len(good),
        levels=tuple(_mean(story for story in good if _is(story, level)) for level in Level),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _is(story: Story, level: Level) -> bool:
    return story.call.seen.level is level and not story.call.seen.model


def _mean(stories: Iterable[Story]) -> float:
    waits = [story.ttft for story in stories]
    return statistics.fmean(waits) if waits else 0.0


def row(name: str, days: Sequence[Figures], best: float) -> str:
    """A line of the table: medians over the seeds, the mean's spread, and how it compares with `best`."""

    def middle(what: str) -> float:
        return float(statistics.median(getattr(day, what) for day in days))

    means = [day.mean for day in days]
    times = " | ".join(f"{middle(what):.2f}" for what in ("p50", "p95", "p99", "total"))
    mean = statistics.fmean(means)
    return (
        f"| {name} | **{mean:.2f}** ({min(means):.2f}–{max(means):.2f}) | {mean / best:.2f} | {times} | "
        f"{middle('swaps'):.0f} | {sum(day.errors for day in days)} |"
    )


HEAD = """| policy | TTFT mean (least–most) | × best known | p50 | p95 | p99 | total | swaps | errors |
|---|---|---|---|---|---|---|---|---|"""


def levels_table(days: dict[str, list[Figures]]) -> str:
    """Mean time to first token by level, of calls that name no model."""
    lines = [f"| policy | {' | '.join(level.label for level in Level)} |", f"|---|{'---|' * len(Level)}"]
    for name, each in days.items():
        cells = [f"{statistics.fmean(day.levels[level] for day in each):.2f}" for level in Level]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
