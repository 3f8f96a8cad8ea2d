"""Counts of values by bucket, as Prometheus has them, and the buckets of what is counted here."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

# The boundaries that OpenTelemetry's semantic conventions for generative AI advise for each of these metrics; times go
# on beyond them, since loading a model or running an agent takes minutes.
DURATION_BOUNDS = tuple(0.01 * 2**power for power in range(17))
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)
TOKEN_BOUNDS = tuple(4**power for power in range(14))


class Histogram:
    """Counts of values by upper bound (inclusive, as Prometheus has it), and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value (not negative)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Count several at once."""
        values = tuple(values)
        for index, count in Counter(map(partial(bisect_left, self.bounds), values)).items():
            self.counts[index] += count
        self.total += sum(values)

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def merge(self, other: "Histogram") -> None:
        """Add another of the same bounds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float:
        """The value below which that share of values lies, linear within its bucket; 0 when there are none.

        Beyond the last bound nothing is known: it is that bound then.
        """
        rank, below = share * self.count, 0
        for index, count in enumerate(self.counts[:-1]):
            if count and below + count >= rank:
                low = self.bounds[index - 1] if index else 0.0
                return low + (self.bounds[index] - low) * max(0.0, rank - below) / count
            below += count
        return self.bounds[-1] if self.counts[-1] else 0.0
