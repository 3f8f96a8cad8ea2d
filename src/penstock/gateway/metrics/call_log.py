"""The outcomes of the last calls, for figures about the last minute."""

from collections import deque
from collections.abc import Iterable

from penstock.gateway.metrics.series import CallOutcome

MAX_CALLS = 10_000


class CallLog:
    """Bounded log of call outcomes. Batches of several series arrive in turn, so the order is only roughly by time."""

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._outcomes: deque[CallOutcome] = deque(maxlen=max_calls)

    def __len__(self) -> int:
        return len(self._outcomes)

    def append_batch(self, outcomes: Iterable[CallOutcome]) -> None:
        """Append outcomes; the oldest entries drop out."""
        self._outcomes.extend(outcomes)

    def outcomes_since(self, start: float) -> list[CallOutcome]:
        """List the logged calls that ended at `start` (monotonic seconds) or later."""
        return [outcome for outcome in self._outcomes if outcome.ended_at >= start]
