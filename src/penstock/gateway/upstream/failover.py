"""Loop of attempts: one candidate after the other, until one delivers a response or the client has seen a byte."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from penstock.domain.errors import PenstockError, create_internal_error
from penstock.domain.request import Defaults, Operation
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.attempt import Attempts
from penstock.gateway.upstream.blame.court import Court
from penstock.gateway.upstream.cancellable_sleep import sleep_while_connected
from penstock.gateway.upstream.failures import (
    FailedAttempt,
    describe_failure,
    give_up_at,
    is_final,
    is_guilty,
    summarize_failures,
)
from penstock.gateway.upstream.resilience.hedging import HedgedClient, run_hedged
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.resilience.retry_budget import RetryBudget
from penstock.gateway.upstream.resilience.retry_plan import RetryPlan
from penstock.gateway.upstream.targets import Target, Targets
from penstock.gateway.upstream.translated_attempt import prepare_resumption

_HEDGEABLE = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})


class Failover:
    """Forwards calls to their candidates. `clock` returns monotonic seconds, `random` numbers in [0, 1)."""

    def __init__(
        self, targets: Targets, attempts: Attempts, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.targets = targets
        self.budget = RetryBudget(clock())
        self._attempts = attempts
        self._refusals = attempts.court.refusals.refusals
        self._clock = clock
        self._random = random

    @property
    def breakers(self) -> BreakerRegistry:
        """All circuit breakers."""
        return self.targets.breakers

    @property
    def defaults(self) -> Defaults:
        """Settings for calls."""
        return self._attempts.defaults

    @defaults.setter
    def defaults(self, defaults: Defaults) -> None:
        self._attempts.defaults = defaults

    def forget(self) -> None:
        """Prepare everything again: settings have changed."""
        self.targets.clear()

    async def forward(self, ctx: RequestContext) -> None:
        """Deliver a response to the client. Raises the error to send to it."""
        self.budget.calls += 1
        attempts = self._attempts
        if ctx.call.stream:
            prepare_resumption(ctx, attempts.defaults)
        if self._refusals and len(ctx.decision.candidates) > 1:
            _demote_refusing(ctx, attempts.court, self._clock())
        candidate = ctx.decision.candidates[0]
        target = self.targets.get(candidate.deployment)
        failures: list[FailedAttempt] = []
        breakers = target.breakers
        if not (breakers.server.is_tracking or breakers.model.is_tracking) or breakers.allows(self._clock()):
            if attempts.defaults.hedge_after and ctx.stream is None and ctx.call.operation in _HEDGEABLE:
                failures = await self._try_hedged(ctx)
                if not failures:
                    return
            else:
                error = await attempts.run(ctx, candidate, target)
                if error is None:
                    return
                failures.append(describe_failure(0, error, ctx))
        try:
            await self._try_others(ctx, failures)
        except Exception as error:
            if ctx.stream is not None and ctx.stream.interrupted is not None:
                known = error if isinstance(error, PenstockError) else create_internal_error()
                ctx.stream.interrupted.give_up(known)
            raise

    async def _try_hedged(self, ctx: RequestContext) -> list[FailedAttempt]:
        """Make one attempt and, if it is slow to start, a second in parallel.

        Return the failed attempts, none if one delivered a response.
        """
        candidates = ctx.decision.candidates
        forks: dict[int, RequestContext] = {}

        def run_attempt(client: HedgedClient) -> Coroutine[Any, None, PenstockError | None]:
            candidate = candidates[client.index]
            fork = forks[client.index] = ctx.fork(client, attempts=len(forks))
            return self._attempts.run(fork, candidate, self.targets.get(candidate.deployment))

        def choose_second() -> int | None:
            others = range(1, len(candidates))
            index = next((index for index in others if self._target_of(ctx, index).breakers.is_healthy), None)
            return index if index is not None and self.budget.try_take(self._clock()) else None

        race = await run_hedged(ctx.client, run_attempt, choose_second, self.defaults.hedge_after, self._attempts.loop)
        last = race.winner or race.attempts[-1]
        ctx.adopt_result(forks[last.index], attempts=len(forks))
        decisive = [race.winner] if race.winner else race.attempts
        return [describe_failure(each.index, each.error, forks[each.index]) for each in decisive if each.error]

    async def _try_others(self, ctx: RequestContext, failures: list[FailedAttempt]) -> None:
        """Try the candidates that the retry plan picks. Raises the error to send to the client."""
        candidates = ctx.decision.candidates
        plan = RetryPlan(
            len(candidates),
            lambda index: self._target_of(ctx, index).breakers,
            self.budget,
            self._random,
            give_up_at(ctx.call, ctx.started_at),
        )
        for failure in failures:
            _raise_if_final_else_record(ctx, plan, failure)
        while (index := await self._next_candidate(ctx, plan)) is not None:
            error = await self._attempts.run(ctx, candidates[index], self._target_of(ctx, index))
            if error is None:
                if failures:
                    self._attempts.court.acquit(ctx.call, self._clock())
                return
            failures.append(describe_failure(index, error, ctx))
            _raise_if_final_else_record(ctx, plan, failures[-1])
        if is_guilty(failures, len(candidates)):
            self._attempts.court.convict(ctx.call, self._clock())
        blocked = [self._target_of(ctx, index) for index in plan.blocked_by_breaker]
        raise summarize_failures(
            [(candidates[failure.index].deployment, failure.error) for failure in failures],
            [(target.deployment, target.breakers) for target in blocked],
            self._clock(),
        )

    async def _next_candidate(self, ctx: RequestContext, plan: RetryPlan) -> int | None:
        """Return the index of the candidate to try next, when it is due; None when there is none.

        A response that has started is continued only by the same model, or by one that needs no warning.
        """
        candidates = ctx.decision.candidates
        while (step := plan.next_step(self._clock())) is not None:
            if step.wait:
                await sleep_while_connected(step.wait, ctx.client, self._attempts.loop)
            started_by = ctx.deployment if ctx.client.response_started else None
            candidate = candidates[step.index]
            if started_by is None or candidate.deployment.model.name == started_by.model.name or not candidate.warning:
                return step.index
        return None

    def _target_of(self, ctx: RequestContext, index: int) -> Target:
        return self.targets.get(ctx.decision.candidates[index].deployment)


def _raise_if_final_else_record(ctx: RequestContext, plan: RetryPlan, failure: FailedAttempt) -> None:
    """Add a failed attempt to the plan. Raises its error when no other attempt can help."""
    if is_final(ctx, failure):
        raise failure.error
    plan.record_failure(failure.index, failure.request_sent, failure.retry, failure.is_unreachable)


def _demote_refusing(ctx: RequestContext, court: Court, now: float) -> None:
    """Put candidates that refused such a request behind others."""
    candidates = court.sort_candidates(ctx.call, ctx.decision.candidates, now)
    if candidates is not ctx.decision.candidates:
        ctx.decision = replace(ctx.decision, candidates=candidates)
