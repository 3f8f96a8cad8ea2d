"""Summaries of simulated days, and tables of them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.scenarios.world import CallRecord, DayResult

from penstock.domain.complexity import Level


@dataclass(frozen=True, slots=True)
class DaySummary:
    """Latencies of one day under one policy in seconds. `levels` are means by level, of calls without a model name."""

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


def summarize_day(outcome: DayResult) -> DaySummary:
    """Summarize a day; failed calls are counted but excluded from latencies."""
    good = [record for record in outcome.records if not record.error]
    waits = sorted(record.ttft for record in good)
    return DaySummary(
        calls=len(outcome.records),
        mean=statistics.fmean(waits),
        p50=find_quantile(waits, 0.50),
        p95=find_quantile(waits, 0.95),
        p99=find_quantile(waits, 0.99),
        total=statistics.fmean(record.total for record in good),
        swaps=outcome.swaps,
        loads=outcome.loads,
        errors=len(outcome.records) - len(good),
        levels=tuple(_mean_wait(record for record in good if _is_unnamed_level(record, level)) for level in Level),
    )


def find_quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _is_unnamed_level(record: CallRecord, level: Level) -> bool:
    return record.call.visible.level is level and not record.call.visible.model


def _mean_wait(records: Iterable[CallRecord]) -> float:
    waits = [record.ttft for record in records]
    return statistics.fmean(waits) if waits else 0.0


def format_row(name: str, days: Sequence[DaySummary], best: float) -> str:
    """Format a row: medians over the seeds, the range of the mean, and its ratio to `best`."""

    def find_median(field: str) -> float:
        return float(statistics.median(getattr(day, field) for day in days))

    means = [day.mean for day in days]
    times = " | ".join(f"{find_median(field):.2f}" for field in ("p50", "p95", "p99", "total"))
    mean = statistics.fmean(means)
    return (
        f"| {name} | **{mean:.2f}** ({min(means):.2f}–{max(means):.2f}) | {mean / best:.2f} | {times} | "
        f"{find_median('swaps'):.0f} | {sum(day.errors for day in days)} |"
    )


HEAD = """| policy | TTFT mean (least–most) | × best known | p50 | p95 | p99 | total | swaps | errors |
|---|---|---|---|---|---|---|---|---|"""


def format_levels(days: dict[str, list[DaySummary]]) -> str:
    """Format the mean time to first token by level, of calls that name no model."""
    lines = [f"| policy | {' | '.join(level.label for level in Level)} |", f"|---|{'---|' * len(Level)}"]
    for name, each in days.items():
        cells = [f"{statistics.fmean(day.levels[level] for day in each):.2f}" for level in Level]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
