"""Renders metrics in Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from penstock.gateway.metrics.histogram import Histogram
from penstock.gateway.metrics.series import Series, SeriesKey, merge_by

Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric whose value is read when the metrics are rendered. `samples` are labels and value.

    It is declared as a counter when its name ends in `_total`.
    """

    name: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True, slots=True)
class _HistogramFamily:
    """A histogram metric; `histograms_of` finds its histograms in a series, with the labels that tell them apart."""

    name: str
    help: str
    histograms_of: Callable[[Series], Sequence[tuple[Labels, Histogram]]]


_HISTOGRAM_FAMILIES = (
    _HistogramFamily(
        "gen_ai_server_request_duration_seconds",
        "Time from the arrival of a call to the end of its response, for successful calls.",
        lambda series: [((), series.duration)],
    ),
    _HistogramFamily(
        "gen_ai_server_time_to_first_token_seconds",
        "Time from the arrival of a call to the first byte of its response body.",
        lambda series: [((), series.first_byte)],
    ),
    _HistogramFamily(
        "gen_ai_client_token_usage",
        "Tokens of a call: prompt (input) and response (output).",
        lambda series: [
            ((("gen_ai_token_type", "input"),), series.prompt_tokens),
            ((("gen_ai_token_type", "output"),), series.completion_tokens),
        ],
    ),
)


def render_metrics(all_series: Mapping[SeriesKey, Series], gauges: Iterable[Gauge]) -> bytes:
    """Render all series and the gauges."""
    lines: list[str] = []
    _append_call_counters(lines, all_series)
    _append_histograms(lines, all_series)
    for gauge in gauges:
        _append_heading(lines, gauge.name, gauge.help, "counter" if gauge.name.endswith("_total") else "gauge")
        lines.extend(
            f"{gauge.name}{f'{{{_render_labels(labels)}}}' if labels else ''} {value:.15g}"
            for labels, value in gauge.samples
        )
    return ("\n".join(lines) + "\n").encode()


def _append_call_counters(lines: list[str], all_series: Mapping[SeriesKey, Series]) -> None:
    _append_heading(lines, "penstock_requests_total", "Calls that have ended, by outcome.", "counter")
    for key, series in all_series.items():
        for code, count in series.calls_by_code.items():
            labels = _render_labels((("wire", key.wire), ("model", key.model), ("server", key.server), ("code", code)))
            lines.append(f"penstock_requests_total{{{labels}}} {count}")
    _append_heading(lines, "penstock_retries_total", "Attempts that failed and were followed by another.", "counter")
    for server, series in merge_by(all_series.items(), lambda key: key.server).items():
        if series.retries:
            lines.append(f"penstock_retries_total{{{_render_labels((('server', server),))}}} {series.retries}")
    _append_heading(lines, "penstock_fallbacks_total", "Calls that needed more than one attempt.", "counter")
    lines.append(f"penstock_fallbacks_total {sum(series.fallbacks for series in all_series.values())}")


def _append_histograms(lines: list[str], all_series: Mapping[SeriesKey, Series]) -> None:
    """Append the histograms by model and server, each summed over wire formats."""
    merged: dict[tuple[str, str], Series] = {}
    for key, series in all_series.items():
        merged.setdefault((key.model, key.server), Series()).merge(series)
    for family in _HISTOGRAM_FAMILIES:
        _append_heading(lines, family.name, family.help, "histogram")
        for (model, server), series in merged.items():
            for extra_labels, histogram in family.histograms_of(series):
                labels = _render_labels((("gen_ai_request_model", model), ("server", server), *extra_labels))
                _append_histogram(lines, family.name, labels, histogram)


def _append_heading(lines: list[str], name: str, text: str, kind: str) -> None:
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")


def _append_histogram(lines: list[str], name: str, labels: str, histogram: Histogram) -> None:
    """Append the buckets, cumulative as Prometheus has them, the sum and the count."""
    cumulative = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        cumulative += count
        limit = "+Inf" if bound == float("inf") else f"{bound:.10g}"
        lines.append(f'{name}_bucket{{{labels},le="{limit}"}} {cumulative}')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total:.10g}")
    lines.append(f"{name}_count{{{labels}}} {cumulative}")


def _render_labels(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escape_value(value)}"' for name, value in labels)


def _escape_value(value: str) -> str:
    """Escape a label value; surrogates, which UTF-8 cannot encode, are replaced."""
    value = value.encode(errors="replace").decode()
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
