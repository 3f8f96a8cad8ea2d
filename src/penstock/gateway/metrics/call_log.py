"""The last calls, for figures about the last minute."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.domain.response import Usage
from penstock.gateway.metrics.series import CLIENT_GONE, OK

MAX_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class RecentCalls:
    """Number of calls and errors, and the tokens of their prompts and answers."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0


class CallLog:
    """Bounded log of calls. Several series append batches in turn, so the order is only roughly by time.

    The fields are kept in parallel columns of plain numbers: ten thousand objects would be work for the garbage
    collector.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._ended_at: deque[float] = deque(maxlen=max_calls)
        self._is_error: deque[bool] = deque(maxlen=max_calls)
        self._tokens: deque[int] = deque(maxlen=max_calls)

    def __len__(self) -> int:
        return len(self._ended_at)

    def append_batch(self, ended_at: Iterable[float], codes: Iterable[str], usages: Sequence[Usage]) -> None:
        """Append calls by columns; the oldest calls drop out."""
        self._ended_at.extend(ended_at)
        self._is_error.extend([code not in (OK, CLIENT_GONE) for code in codes])
        self._tokens.extend([usage.total_tokens for usage in usages])

    def count_since(self, start: float) -> RecentCalls:
        """Count the logged calls that ended at `start` (monotonic seconds) or later."""
        recent = [index for index, ended_at in enumerate(self._ended_at) if ended_at >= start]
        errors, tokens = list(self._is_error), list(self._tokens)
        return RecentCalls(
            requests=len(recent),
            errors=sum(errors[index] for index in recent),
            tokens=sum(tokens[index] for index in recent),
        )
