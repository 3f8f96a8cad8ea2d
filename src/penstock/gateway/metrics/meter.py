"""What calls have come to: counters, histograms and a journal of the last ones. Told once at the end of every call.

`settle` is on the hot path: it only notes the call. Series are bounded: beyond `MOST_SERIES` of model,
server and wire, and `MOST_CODES` errors of one of them, the rest is counted as `other`. Times are seconds.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from penstock.gateway.metrics.histogram import DURATION_BOUNDS, TOKEN_BOUNDS, TTFT_BOUNDS, Histogram

MOST_SERIES = 500
MOST_CODES = 30
JOURNAL = 10_000
BATCH = 256
OTHER = "other"
GONE = "client_gone"


class Record(NamedTuple):
    """One call that has ended.

    `code` is "ok" or an error's; a stream that broke has status 200 and an error's code. `gone`: the client hung up,
    which is nobody's error. `ttft` is 0 when there was no first byte; `started_at` is monotonic. A tuple: one is
    made for every call, and it is the cheapest thing to make that cannot be changed.
    """

    wire: str
    dialect: str = ""
    model: str = ""
    server: str = ""
    kind: str = ""
    status: int = 200
    code: str = "ok"
    streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    ttft: float = 0.0
    total: float = 0.0
    attempts: int = 1
    fallback: bool = False
    gone: bool = False
    started_at: float = 0.0


RecordFields: TypeAlias = (
    Record | tuple[str, str, str, str, str, int, str, bool, int, int, bool, float, float, int, bool, bool, float]
)
"""A record, or its fields in order: a bare tuple costs nothing to make."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A histogram in a few numbers, seconds."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls of one model, one server, or all together. Latencies are of calls that ended well."""

    name: str = ""
    requests: int = 0
    errors: int = 0
    gone: int = 0
    streamed: int = 0
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency: Percentiles = Percentiles()
    ttft: Percentiles = Percentiles()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that has been counted up to one moment; `last_minute` is of calls that ended within 60 s before it."""

    all: Totals
    models: tuple[Totals, ...]
    servers: tuple[Totals, ...]
    codes: Mapping[str, int]
    wires: Mapping[str, int]
    retries: int
    last_minute_requests: int
    last_minute_errors: int
    last_minute_tokens: int


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric read at the moment of asking: `samples` are labels and value. Counters end in `_total`."""

    name: str
    help: str
    samples: tuple[tuple[tuple[tuple[str, str], ...], float], ...]


def _columns(records: Sequence[RecordFields]) -> Any:
    """Records turned on their side: a Record whose fields are the values of all of them."""
    return Record._make(zip(*records, strict=True) if records else [()] * len(Record._fields))


_key: Callable[[RecordFields], tuple[str, str, str]] = itemgetter(2, 3, 0)  # model, server, wire


class _Series:
    """What calls in one wire of one model on one server have come to; `duration` counts those that ended well."""

    __slots__ = ("duration", "errors", "fallbacks", "gone", "prompt", "streamed", "tokens", "ttft")

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.gone = 0
        self.streamed = 0
        self.fallbacks = 0
        self.duration = Histogram(DURATION_BOUNDS)
        self.ttft = Histogram(TTFT_BOUNDS)
        self.prompt = Histogram(TOKEN_BOUNDS)
        self.tokens = Histogram(TOKEN_BOUNDS)

    def add(self, records: Sequence[RecordFields]) -> None:
        """Count calls, column by column: that is done in C, where going through them one by one is not."""
        columns = _columns(records)
        self.streamed += sum(columns.streamed)
        self.fallbacks += sum(columns.fallback)
        ended = columns
        if any(columns.gone) or columns.code.count("ok") < len(records):
            ended = self._note_failures(records)
        self.duration.observe_all(ended.total)
        self.ttft.observe_all(filter(None, ended.ttft))
        self.prompt.observe_all(filter(None, columns.prompt_tokens))
        self.tokens.observe_all(filter(None, columns.completion_tokens))

    def _note_failures(self, records: Sequence[RecordFields]) -> Any:
        """Count those that did not end well; the columns of those that did."""
        ended = []
        for record in map(Record._make, records):
            if record.gone:
                self.gone += 1
            elif record.code != "ok":
                code = record.code if record.code in self.errors or len(self.errors) < MOST_CODES else OTHER
                self.errors[code] = self.errors.get(code, 0) + 1
            else:
                ended.append(record)
        return _columns(ended)

    @property
    def outcomes(self) -> dict[str, int]:
        """Calls by code."""
        every = {"ok": self.duration.count, GONE: self.gone, **self.errors}
        return {code: count for code, count in every.items() if count}

    def merge(self, other: "_Series") -> "_Series":
        """Add another's counts to these."""
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        self.gone += other.gone
        self.streamed += other.streamed
        self.fallbacks += other.fallbacks
        self.duration.merge(other.duration)
        self.ttft.merge(other.ttft)
        self.prompt.merge(other.prompt)
        self.tokens.merge(other.tokens)
        return self


class Meter:
    """Owner of all counts. `sources` are asked for gauges at each exposition; `journal` holds the last calls.

    A call that ends is only noted; notes are counted by the batch, which costs a third of counting each at once.
    """

    def __init__(self, sources: Iterable[Callable[[], Iterable[Gauge]]] = (), journal: int = JOURNAL) -> None:
        self.sources = list(sources)
        self._journal: deque[RecordFields] = deque(maxlen=journal)
        self._noted: list[RecordFields] = []
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._retries: Counter[str] = Counter()

    @property
    def journal(self) -> list[Record]:
        """The last calls, the oldest first."""
        self._count()
        return [Record._make(fields) for fields in self._journal]

    def settle(self, record: RecordFields) -> None:
        """A call has ended; called exactly once for each, with a Record or a bare tuple of its fields."""
        noted = self._noted
        noted.append(record)
        if len(noted) >= BATCH:
            self._count()

    def _count(self) -> None:
        """Count what is noted."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        self._journal.extend(noted)
        keys = list(map(_key, noted))
        if keys.count(keys[0]) == len(keys):  # a batch is mostly of one kind
            self._open(keys[0]).add(noted)
            return
        groups: dict[tuple[str, str, str], list[RecordFields]] = {}
        for key, fields in zip(keys, noted, strict=True):
            groups.setdefault(key, []).append(fields)
        for key, records in groups.items():
            self._open(key).add(records)

    def _open(self, key: tuple[str, str, str]) -> _Series:
        known = key in self._series or len(self._series) < MOST_SERIES
        return self._series.setdefault(key if known else (OTHER, OTHER, OTHER), _Series())

    def retry(self, server: str) -> None:
        """A try on this server has failed and another one follows."""
        self._retries[server if server in self._retries or len(self._retries) < MOST_SERIES else OTHER] += 1

    def snapshot(self, now: float) -> Snapshot:
        """Everything in figures; `now` is monotonic."""
        self._count()
        whole = _Series()
        for series in self._series.values():
            whole.merge(series)
        wires = _merged(self._series, lambda key: key[2])
        recent = [record for record in self.journal if now - record.started_at - record.total <= 60.0]
        return Snapshot(
            all=_totals("", whole),
            models=_breakdown(_merged(self._series, lambda key: key[0])),
            servers=_breakdown(_merged(self._series, lambda key: key[1])),
            codes=whole.outcomes,
            wires={wire: sum(series.outcomes.values()) for wire, series in sorted(wires.items())},
            retries=self._retries.total(),
            last_minute_requests=len(recent),
            last_minute_errors=sum(record.code != "ok" and not record.gone for record in recent),
            last_minute_tokens=sum(record.prompt_tokens + record.completion_tokens for record in recent),
        )

    def exposition(self, gauges: Iterable[Gauge] = ()) -> bytes:
        """Everything in Prometheus' text format 0.0.4, with these gauges beside those of `sources`."""
        self._count()
        lines: list[str] = []
        self._expose_counters(lines)
        pairs = _merged(self._series, lambda key: key[:2])
        for name, text, histograms in _HISTOGRAMS:
            _heading(lines, name, text, "histogram")
            for (model, server), series in pairs.items():
                for extra, values in histograms(series):
                    _expose(lines, name, _labels((("gen_ai_request_model", model), ("server", server), *extra)), values)
        for gauge in (*gauges, *(gauge for source in self.sources for gauge in source())):
            _heading(lines, gauge.name, gauge.help, "counter" if gauge.name.endswith("_total") else "gauge")
            lines.extend(f"{gauge.name}{_braced(_labels(labels))} {value:.15g}" for labels, value in gauge.samples)
        return ("\n".join(lines) + "\n").encode()

    def _expose_counters(self, lines: list[str]) -> None:
        _heading(lines, "penstock_requests_total", "Calls that have ended, by their outcome.", "counter")
        for (model, server, wire), series in self._series.items():
            for code, count in series.outcomes.items():
                labels = _labels((("wire", wire), ("model", model), ("server", server), ("code", code)))
                lines.append(f"penstock_requests_total{{{labels}}} {count}")
        _heading(lines, "penstock_retries_total", "Tries that failed and were followed by another.", "counter")
        for server, count in self._retries.items():
            lines.append(f"penstock_retries_total{{{_labels((('server', server),))}}} {count}")
        _heading(lines, "penstock_fallbacks_total", "Calls that something else than asked for answered.", "counter")
        lines.append(f"penstock_fallbacks_total {sum(series.fallbacks for series in self._series.values())}")


_Key = TypeVar("_Key")


def _merged(
    every: Mapping[tuple[str, str, str], _Series], group: Callable[[tuple[str, str, str]], _Key]
) -> dict[_Key, _Series]:
    found: dict[_Key, _Series] = {}
    for key, series in every.items():
        found.setdefault(group(key), _Series()).merge(series)
    return found


def _breakdown(parts: Mapping[str, _Series]) -> tuple[Totals, ...]:
    return tuple(_totals(name, series) for name, series in sorted(parts.items()) if name)


def _totals(name: str, series: _Series) -> Totals:
    return Totals(
        name=name,
        requests=sum(series.outcomes.values()),
        errors=sum(series.errors.values()),
        gone=series.gone,
        streamed=series.streamed,
        fallbacks=series.fallbacks,
        prompt_tokens=round(series.prompt.total),
        completion_tokens=round(series.tokens.total),
        latency=_percentiles(series.duration),
        ttft=_percentiles(series.ttft),
    )


def _percentiles(histogram: Histogram) -> Percentiles:
    count = histogram.count
    mean = histogram.total / count if count else 0.0
    return Percentiles(count, mean, *(histogram.quantile(share) for share in (0.5, 0.9, 0.95, 0.99)))


_Labels = tuple[tuple[str, str], ...]
_HISTOGRAMS: tuple[tuple[str, str, Callable[[_Series], Sequence[tuple[_Labels, Histogram]]]], ...] = (
    (
        "gen_ai_server_request_duration_seconds",
        "From a call's arrival to the end of its answer, of calls that ended well.",
        lambda series: [((), series.duration)],
    ),
    (
        "gen_ai_server_time_to_first_token_seconds",
        "From a call's arrival to the first piece of its answer.",
        lambda series: [((), series.ttft)],
    ),
    (
        "gen_ai_client_token_usage",
        "Tokens of a call's prompt (input) and answer (output).",
        lambda series: [
            ((("gen_ai_token_type", "input"),), series.prompt),
            ((("gen_ai_token_type", "output"),), series.tokens),
        ],
    ),
)


def _heading(lines: list[str], name: str, text: str, kind: str) -> None:
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")


def _expose(lines: list[str], name: str, labels: str, histogram: Histogram) -> None:
    below = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        limit = "+Inf" if bound == float("inf") else f"{bound:.10g}"
        lines.append(f'{name}_bucket{{{labels},le="{limit}"}} {below}')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total:.10g}")
    lines.append(f"{name}_count{{{labels}}} {below}")


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(value: str) -> str:
    """A label's value as the text format wants it; surrogates, which no encoder takes, are replaced."""
    value = value.encode(errors="replace").decode()
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
