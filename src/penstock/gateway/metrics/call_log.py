"""The last calls, for figures about the last minute."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

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
        self._codes: deque[str] = deque(maxlen=max_calls)
        self._prompt_tokens: deque[int] = deque(maxlen=max_calls)
        self._completion_tokens: deque[int] = deque(maxlen=max_calls)

    def __len__(self) -> int:
        return len(self._ended_at)

    def append_batch(
        self,
        ended_at: Iterable[float],
        codes: Iterable[str],
        prompt_tokens: Iterable[int],
        completion_tokens: Iterable[int],
    ) -> None:
        """Append calls by columns; the oldest calls drop out."""
        self._ended_at.extend(ended_at)
        self._codes.extend(codes)
        self._prompt_tokens.extend(prompt_tokens)
        self._completion_tokens.extend(completion_tokens)

    def count_since(self, start: float) -> RecentCalls:
        """Count the logged calls that ended at `start` (monotonic seconds) or later."""
        columns = zip(self._ended_at, self._codes, self._prompt_tokens, self._completion_tokens, strict=True)
        recent = [(code, prompt + completion) for ended_at, code, prompt, completion in columns if ended_at >= start]
        return RecentCalls(
            requests=len(recent),
            errors=sum(code not in (OK, CLIENT_GONE) for code, _ in recent),
            tokens=sum(tokens for _, tokens in recent),
        )
