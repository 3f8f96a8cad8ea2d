"""Observer that keeps the last routing decisions, so that people can ask why a call went where it went."""

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from penstock.domain.fleet import Deployment
from penstock.domain.routing_decision import Decision
from penstock.gateway.request_context import UNROUTED, RequestContext

MAX_DECISIONS = 1000


class DecisionRecord(NamedTuple):
    """A routing decision and the outcome of its call.

    `started_at` is monotonic seconds. `requested_model` is the name that the caller gave. `deployment` is the one that
    the call ended on, None when none was tried; `code` is `ok` or an error's. The request itself is not kept: it holds
    the user's text.
    """

    started_at: float
    request_id: bytes
    wire: str
    requested_model: str
    decision: Decision
    deployment: Deployment | None
    attempts: int
    code: str


_create_record: Callable[[tuple[float, bytes, str, str, Decision, Deployment | None, int, str]], DecisionRecord]
_create_record = partial(tuple.__new__, DecisionRecord)
"""Creates a record from its fields in order. The named constructor takes three times as long, for every call."""


class DecisionLog:
    """The last decisions, and the number of calls by complexity level.

    `calls_by_level` counts calls whose model the gateway selected.
    """

    def __init__(self, max_decisions: int = MAX_DECISIONS) -> None:
        self.calls_by_level: Counter[str] = Counter()
        self._records: deque[DecisionRecord] = deque(maxlen=max_decisions)

    def observe_call(self, ctx: RequestContext) -> None:
        """Keep the decision, if there was one."""
        profile = ctx.call.profile
        if profile is not None:
            self.calls_by_level[profile.level.label] += 1
        if ctx.decision is not UNROUTED:
            self._records.append(
                _create_record(
                    (
                        ctx.started_at,
                        ctx.client.id,
                        ctx.endpoint.wire,
                        ctx.call.model,
                        ctx.decision,
                        ctx.deployment,
                        ctx.attempts,
                        ctx.code,
                    )
                )
            )

    @property
    def records(self) -> list[DecisionRecord]:
        """The records, oldest first."""
        return list(self._records)
