"""Metrics of all calls: series by model, server and wire format, and a log of the last calls.

The number of series is bounded: beyond `MAX_SERIES`, calls are counted under the labels `other`. Times are seconds.
"""

from collections.abc import Callable, Iterable

from penstock.gateway.metrics.call_log import MAX_CALLS, CallLog
from penstock.gateway.metrics.prometheus import Gauge, render_metrics
from penstock.gateway.metrics.series import OTHER, Series, SeriesKey
from penstock.gateway.metrics.snapshot import Snapshot, summarize_series

MAX_SERIES = 500
LAST_MINUTE = 60.0


class SeriesByWire(dict[str, Series]):
    """Series of one model on one server by wire format, created by the meter when a wire is first used."""

    __slots__ = ("_open_series",)

    def __init__(self, open_series: Callable[[str], Series]) -> None:
        super().__init__()
        self._open_series = open_series

    def __missing__(self, wire: str) -> Series:
        series = self[wire] = self._open_series(wire)
        return series


class Meter:
    """Owner of all series and of the call log.

    Callers resolve a series once, with `series_of`, and record their calls there: no key is looked up per call.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._call_log = CallLog(max_calls)
        self._series: dict[SeriesKey, Series] = {}

    def series_of(self, model: str, server: str) -> SeriesByWire:
        """Return the series of a model on a server; both are empty for calls that reached no server."""
        return SeriesByWire(lambda wire: self._open_series(SeriesKey(model, server, wire)))

    def _open_series(self, key: SeriesKey) -> Series:
        if key not in self._series and len(self._series) >= MAX_SERIES:
            key = SeriesKey(OTHER, OTHER, OTHER)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(self._call_log.append_batch)
        return series

    def take_snapshot(self, now: float) -> Snapshot:
        """Compute all figures; `now` is monotonic."""
        self._count_pending()
        return summarize_series(self._series, self._call_log.count_since(now - LAST_MINUTE))

    def render_prometheus(self, gauges: Iterable[Gauge] = ()) -> bytes:
        """Render everything, and `gauges`, in Prometheus' text format 0.0.4."""
        self._count_pending()
        return render_metrics(self._series, gauges)

    def _count_pending(self) -> None:
        for series in self._series.values():
            series.count_pending()
