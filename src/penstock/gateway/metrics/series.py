"""Counts of the calls in one wire format for one model on one server.

Calls are recorded one by one and counted in batches, which takes a third of the time of counting each at once.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import sub
from typing import NamedTuple, TypeAlias

from penstock.gateway.metrics.histogram import DURATION_BOUNDS, TOKEN_BOUNDS, TTFT_BOUNDS, Histogram

BATCH_SIZE = 256
MAX_CODES = 30
"""Error codes that are counted apart in one series; further ones are counted as `other`."""
OTHER = "other"
OK = "ok"
CLIENT_GONE = "client_gone"
"""Code of calls whose client hung up. They are counted apart from errors."""


class SeriesKey(NamedTuple):
    """Labels of a series; `model` and `server` are empty for calls that reached no server."""

    model: str
    server: str
    wire: str


class CallOutcome(NamedTuple):
    """Result of one call.

    `code` is `ok`, `client_gone` or the code of an error; a stream that broke off has an error's code. Times are
    monotonic; `first_byte_at` is 0 when there was no first byte.
    """

    code: str
    prompt_tokens: int
    completion_tokens: int
    started_at: float
    first_byte_at: float
    ended_at: float


create_outcome: Callable[[tuple[str, int, int, float, float, float]], CallOutcome]
create_outcome = partial(tuple.__new__, CallOutcome)
"""Creates an outcome from its fields in order. The named constructor takes three times as long, for every call."""

BatchListener: TypeAlias = Callable[[Sequence[float], Sequence[str], Sequence[int], Sequence[int]], None]


class Series:
    """Counts of one label set. `duration` and `first_byte` hold the calls that succeeded.

    `on_batch` receives the end times, codes and tokens of each batch when it is counted.
    """

    __slots__ = (
        "_on_batch", "_pending", "completion_tokens", "disconnects", "duration", "errors", "fallbacks", "first_byte",
        "prompt_tokens", "retries", "streamed",
    )  # fmt: skip

    def __init__(self, on_batch: BatchListener | None = None) -> None:
        self.errors: dict[str, int] = {}
        self.disconnects = 0
        self.streamed = 0
        self.fallbacks = 0
        self.retries = 0
        self.duration = Histogram(DURATION_BOUNDS)
        self.first_byte = Histogram(TTFT_BOUNDS)
        self.prompt_tokens = Histogram(TOKEN_BOUNDS)
        self.completion_tokens = Histogram(TOKEN_BOUNDS)
        self._on_batch = on_batch
        self._pending: list[CallOutcome] = []

    def record(self, outcome: CallOutcome, is_streamed: bool = False, is_fallback: bool = False) -> None:
        """Record the end of a call; called exactly once for each."""
        if is_streamed:
            self.streamed += 1
        if is_fallback:
            self.fallbacks += 1
        pending = self._pending
        pending.append(outcome)
        if len(pending) >= BATCH_SIZE:
            self.count_pending()

    def count_retry(self) -> None:
        """Count an attempt that failed here and was followed by another one, here or elsewhere."""
        self.retries += 1

    def count_pending(self) -> None:
        """Count the outcomes recorded since the last batch.

        Each field is counted for the whole batch at once: that runs in C, unlike a loop over the outcomes.
        """
        outcomes, self._pending = self._pending, []
        if not outcomes:
            return
        codes, prompt_tokens, completion_tokens, _, _, ended_at = zip(*outcomes, strict=True)
        if self._on_batch is not None:
            self._on_batch(ended_at, codes, prompt_tokens, completion_tokens)
        self.prompt_tokens.observe_all(filter(None, prompt_tokens))
        self.completion_tokens.observe_all(filter(None, completion_tokens))
        successes = outcomes if codes.count(OK) == len(codes) else self._count_failures(outcomes)
        if successes:
            _, _, _, started_at, first_byte_at, ended_at = zip(*successes, strict=True)
            self.duration.observe_all(map(sub, ended_at, started_at))
            times = zip(first_byte_at, started_at, strict=True)
            self.first_byte.observe_all([first - start for first, start in times if first])

    def _count_failures(self, outcomes: Sequence[CallOutcome]) -> list[CallOutcome]:
        """Count the calls that did not succeed; return those that did."""
        successes = []
        for outcome in outcomes:
            if outcome.code == OK:
                successes.append(outcome)
            elif outcome.code == CLIENT_GONE:
                self.disconnects += 1
            else:
                code = outcome.code if outcome.code in self.errors or len(self.errors) < MAX_CODES else OTHER
                self.errors[code] = self.errors.get(code, 0) + 1
        return successes

    @property
    def calls_by_code(self) -> dict[str, int]:
        """Counted calls by code, without zeros."""
        counts = {OK: self.duration.count, CLIENT_GONE: self.disconnects, **self.errors}
        return {code: count for code, count in counts.items() if count}

    def merge(self, other: "Series") -> "Series":
        """Add the counts of another series to these."""
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        self.disconnects += other.disconnects
        self.streamed += other.streamed
        self.fallbacks += other.fallbacks
        self.retries += other.retries
        self.duration.merge(other.duration)
        self.first_byte.merge(other.first_byte)
        self.prompt_tokens.merge(other.prompt_tokens)
        self.completion_tokens.merge(other.completion_tokens)
        return self


def merge_by(all_series: Iterable[tuple[SeriesKey, Series]], label_of: Callable[[SeriesKey], str]) -> dict[str, Series]:
    """Sum the series that have a label in common."""
    merged: dict[str, Series] = {}
    for key, series in all_series:
        merged.setdefault(label_of(key), Series()).merge(series)
    return merged
