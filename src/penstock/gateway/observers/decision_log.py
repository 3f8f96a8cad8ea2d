"""Observer that keeps the last routing decisions, so that people can ask why a call went where it went."""

from collections import Counter, deque

from penstock.gateway.request_context import UNROUTED, RequestContext

MAX_DECISIONS = 1000


class DecisionRecord:
    """A routing decision and the outcome of its call.

    `started_at` is monotonic seconds. `requested_model` is the name that the caller gave. `deployment` is the one that
    the call ended on, None when none was tried; `code` is `ok` or an error's. The request itself is not kept: it holds
    the user's text. Created from the context, since one is created for every call and a constructor with eight
    parameters takes twice the time.
    """

    __slots__ = ("attempts", "code", "decision", "deployment", "request_id", "requested_model", "started_at", "wire")

    def __init__(self, ctx: RequestContext) -> None:
        self.started_at = ctx.started_at
        self.request_id = ctx.client.id
        self.wire = ctx.endpoint.wire
        self.requested_model = ctx.call.model
        self.decision = ctx.decision
        self.deployment = ctx.deployment
        self.attempts = ctx.attempts
        self.code = ctx.code


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
            self._records.append(DecisionRecord(ctx))

    @property
    def records(self) -> list[DecisionRecord]:
        """The records, oldest first."""
        return list(self._records)
