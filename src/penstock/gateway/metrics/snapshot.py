"""Figures about all calls at one moment, as `/stats` shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.gateway.metrics.call_log import RecentCalls
from penstock.gateway.metrics.histogram import Histogram
from penstock.gateway.metrics.series import Series, SeriesKey, merge_by

_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Summary of a histogram, in seconds."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls of one model, of one server, or of all together.

    `disconnects` are calls whose client hung up; they are not errors. Latencies are those of calls that succeeded.
    """

    name: str = ""
    requests: int = 0
    errors: int = 0
    disconnects: int = 0
    streamed: int = 0
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency: Percentiles = Percentiles()
    ttft: Percentiles = Percentiles()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything counted up to one moment. `codes` and `wires` are calls by code and by wire format."""

    all: Totals
    models: tuple[Totals, ...]
    servers: tuple[Totals, ...]
    codes: Mapping[str, int]
    wires: Mapping[str, int]
    retries: int
    last_minute: RecentCalls


def summarize_series(all_series: Mapping[SeriesKey, Series], last_minute: RecentCalls) -> Snapshot:
    """Compute the figures."""
    everything = Series()
    for series in all_series.values():
        everything.merge(series)
    by_wire = merge_by(all_series.items(), lambda key: key.wire)
    return Snapshot(
        all=_total_of("", everything),
        models=_break_down(merge_by(all_series.items(), lambda key: key.model)),
        servers=_break_down(merge_by(all_series.items(), lambda key: key.server)),
        codes=everything.calls_by_code,
        wires={wire: sum(series.calls_by_code.values()) for wire, series in sorted(by_wire.items())},
        retries=everything.retries,
        last_minute=last_minute,
    )


def _break_down(parts: Mapping[str, Series]) -> tuple[Totals, ...]:
    return tuple(_total_of(name, series) for name, series in sorted(parts.items()) if name)


def _total_of(name: str, series: Series) -> Totals:
    return Totals(
        name=name,
        requests=sum(series.calls_by_code.values()),
        errors=sum(series.errors.values()),
        disconnects=series.disconnects,
        streamed=series.streamed,
        fallbacks=series.fallbacks,
        prompt_tokens=round(series.prompt_tokens.total),
        completion_tokens=round(series.completion_tokens.total),
        latency=_percentiles_of(series.duration),
        ttft=_percentiles_of(series.first_byte),
    )


def _percentiles_of(histogram: Histogram) -> Percentiles:
    count = histogram.count
    mean = histogram.total / count if count else 0.0
    return Percentiles(count, mean, *(histogram.quantile(share) for share in _QUANTILES))
