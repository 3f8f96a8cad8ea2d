"""The loop of tries: one candidate after the other, until one has delivered or the client has seen a first byte."""

import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeAlias

from penstock.dialects.base import Endpoint
from penstock.domain.errors import (
    ConnectFailed,
    ModelNotFound,
    PenstockError,
    Unsupported,
    UpstreamStatus,
    UpstreamTimeout,
)
from penstock.domain.fleet import Deployment, Fleet
from penstock.domain.request import Call, Defaults, Operation
from penstock.domain.response import ModelResponse
from penstock.domain.response_metadata import Provenance
from penstock.domain.routing_decision import Candidate
from penstock.engines.base import EngineRequest, FetchFunction, ResponseReader
from penstock.gateway.client import Client
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.request_context import RelayedResponse, RequestContext
from penstock.gateway.resumable_stream import ResumableStream
from penstock.gateway.upstream.attempt import Attempts, Target
from penstock.gateway.upstream.attempt_errors import final, sent, sum_up
from penstock.gateway.upstream.cancellable_sleep import sleep_while_connected
from penstock.gateway.upstream.local_answers import count, deliver, without_engine
from penstock.gateway.upstream.provenance_headers import ANOTHER, Heads
from penstock.gateway.upstream.relay.passthrough import PassThrough
from penstock.gateway.upstream.relay.polling import Missing, Polled
from penstock.gateway.upstream.relay.resumable import Resumable
from penstock.gateway.upstream.relay.translating import Translated
from penstock.gateway.upstream.request_defaults import whole
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS, BreakerPair, Permits
from penstock.gateway.upstream.resilience.breaker_registry import BreakerRegistry
from penstock.gateway.upstream.resilience.hedging import HedgedClient, run_hedged
from penstock.gateway.upstream.resilience.retry_budget import RetryBudget
from penstock.gateway.upstream.resilience.retry_plan import RetryPlan

Failure: TypeAlias = tuple[int, PenstockError, bool]
"""A failed try: the candidate's place, why, and whether the engine had the request."""
_TWICE = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})
_BUSY = frozenset({425, 429, 503})


class Failover:
    """Tries candidates. `suspect(server name)` is told of a server that failed, so that it is looked at. `clock` gives
    monotonic seconds, `wall` the time of day. `fetch` is for small requests beside the call's own."""

    def __init__(
        self,
        catalog: Catalog,
        attempts: Attempts,
        defaults: Defaults,
        suspect: Callable[[str], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        fetch: FetchFunction,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.defaults = defaults
        self.breakers = BreakerRegistry(chance)
        self.budget = RetryBudget(clock())
        self._chance = chance
        self._catalog = catalog
        self._attempts = attempts
        self._suspect = suspect
        self._clock = clock
        self._wall = wall
        self._fetch = fetch
        self._missing = Missing()
        self._turn = 0
        self._targets: dict[tuple[str, str], Target] = {}
        self._heads = Heads()
        self._drawn_for: Fleet | None = None

    def forget(self) -> None:
        """Draw everything anew: settings have changed."""
        self._targets.clear()
        self._heads.clear()

    async def forward(self, ctx: RequestContext) -> None:
        """Deliver a response to the client. Raises the error to send to it."""
        call = ctx.call
        self.budget.calls += 1
        if call.stream and (self.defaults.resume or call.flags) and self._may_resume(call):
            content = ctx.content = whole(ctx.endpoint, call, self.defaults)
            ctx.stream = ResumableStream.for_call(call, content)
        first = ctx.decision.candidates[0]
        target = self._target(first.deployment)
        guard = target.guard
        failures: list[Failure] = []
        if not (guard.server.is_tracking or guard.model.is_tracking) or guard.allows(self._clock()):
            if self.defaults.hedge_after and ctx.stream is None and call.operation in _TWICE:
                failures = await self._hedged(ctx)
                if not failures:
                    return
            else:
                error = await self._one(ctx, first, target)
                if error is None:
                    return
                failures.append((0, error, sent(error, ctx.relay)))
        try:
            await self._go_on(ctx, failures)
        except Exception as failure:
            if ctx.stream is not None and ctx.stream.interrupted is not None:
                unknown = PenstockError("the gateway failed; its log says how")
                ctx.stream.interrupted.give_up(failure if isinstance(failure, PenstockError) else unknown)
            raise

    async def _go_on(self, ctx: RequestContext, failures: list[Failure]) -> None:
        """Go through the candidates, of which some have failed."""
        candidates = ctx.decision.candidates
        course = self._course(candidates)
        seen = 0
        while True:
            for place, error, work in failures[seen:]:
                if final(ctx, error):
                    raise error
                course.record_failure(
                    place, work, error.status in _BUSY, isinstance(error, ConnectFailed | UpstreamTimeout)
                )
            seen = len(failures)
            place = await self._step(ctx, course)
            if place < 0:
                break
            target = self._target(candidates[place].deployment)
            failure = await self._one(ctx, candidates[place], target)
            if failure is None:
                return
            failures.append((place, failure, sent(failure, ctx.relay)))
        failed = [(candidates[place].deployment, error) for place, error, _ in failures]
        shut = [
            (candidates[i].deployment, self._target(candidates[i].deployment).guard) for i in course.blocked_by_breaker
        ]
        raise sum_up(failed, shut, self._clock())

    async def _hedged(self, ctx: RequestContext) -> list[Failure]:
        """A first try, and when it is slow to begin a second one beside it; none of the failures when one delivered."""
        candidates = ctx.decision.candidates
        own: dict[int, RequestContext] = {}

        def run_attempt(client: HedgedClient) -> Coroutine[Any, None, PenstockError | None]:
            candidate = candidates[client.index]
            forked = own[client.index] = ctx.fork(client, attempts=len(own))
            return self._one(forked, candidate, self._target(candidate.deployment))

        def choose_second() -> int | None:
            healthy = (p for p in range(1, len(candidates)) if self._target(candidates[p].deployment).guard.is_healthy)
            place = next(healthy, None)
            return place if place is not None and self.budget.try_take(self._clock()) else None

        race = await run_hedged(ctx.client, run_attempt, choose_second, self.defaults.hedge_after, self._attempts.loop)
        last = race.winner or race.attempts[-1]
        ctx.adopt_result(own[last.index], attempts=len(own))
        told = [race.winner] if race.winner else race.attempts
        return [(lane.index, lane.error, sent(lane.error, own[lane.index].relay)) for lane in told if lane.error]

    async def _one(self, ctx: RequestContext, candidate: Candidate, target: Target) -> PenstockError | None:
        """One try, with its lease and its permits, which are given back whatever happens. The error that stopped it,
        or None when the answer is delivered."""
        client, endpoint, call, deployment = ctx.client, ctx.endpoint, ctx.call, candidate.deployment
        guard, live = target.guard, target.live
        permits = NO_PERMITS
        if guard.server.is_tracking or guard.model.is_tracking:
            permits = guard.acquire(self._clock(), None if client.response_started else _beginning(client))
        ctx.running_before = live.running
        live.running += 1
        self._turn += 1
        live.last_call_number = self._turn
        if deployment.on_demand:
            ctx.model_was_loaded = live.swap_queue.start(deployment.model.name, deployment.model.size, self._clock())
        ctx.start_attempt(deployment, target.series)
        try:
            if ctx.stream is None and endpoint.wire in target.engine.native_paths:
                head = self._heads.of(deployment, ctx.decision, ctx.attempts)
                relay = ctx.relay = PassThrough(client, call, endpoint, head, self._attempts.loop)
                data = self._attempts.begin(
                    target, target.engine.forward_request(call, deployment.model), relay, client
                )
                if relay.connection is None or await relay is not None or relay.status >= 300:
                    await self._attempts.finish(target, data, relay, client)
            else:
                await self._translated(ctx, candidate)
            live.consecutive_failures = 0
            if guard.server.is_tracking or guard.model.is_tracking:
                guard.record_success(permits, self._clock())
                permits = NO_PERMITS
            if call.operation is Operation.MANAGE:
                self._suspect(deployment.server.name)  # its list of models has changed
            return None
        except PenstockError as error:
            client.upstream = None  # the connection may serve another call by now
            self._note(error, target, permits, ctx.relay)
            permits = NO_PERMITS
            return error
        finally:
            live.running -= 1
            if deployment.on_demand:
                live.swap_queue.finish(deployment.model.name, self._clock())
            if permits is not NO_PERMITS:
                guard.release(permits)

    def _may_resume(self, call: Call) -> bool:
        return "resume" in call.flags or (self.defaults.resume and "break" not in call.flags)

    def _course(self, candidates: tuple[Candidate, ...]) -> RetryPlan:
        def guard_of(place: int) -> BreakerPair:
            return self._target(candidates[place].deployment).guard

        return RetryPlan(len(candidates), guard_of, self.budget, self._chance)

    async def _step(self, ctx: RequestContext, course: RetryPlan) -> int:
        """The place of the candidate to try next, when its time has come; -1 when there is none."""
        client, candidates = ctx.client, ctx.decision.candidates
        while (step := course.next_step(self._clock())) is not None:
            if step.wait:
                await sleep_while_connected(step.wait, client, self._attempts.loop)
            begun = ctx.deployment if client.response_started else None
            if (
                begun is None
                or candidates[step.index].deployment.model.name == begun.model.name
                or (not candidates[step.index].warning)
            ):
                return step.index
        return -1

    def _hear(self, fleet: Fleet) -> None:
        """What new looks tell the breakers, and breakers the router."""
        self.breakers.update_from_health_checks(fleet.statuses, self._clock())
        for name, live in self._catalog.loads.items():
            if live.traffic_share is not None and self.breakers.is_unrestricted(name, self._clock()):
                live.traffic_share = None

    def _target(self, deployment: Deployment) -> Target:
        fleet = self._catalog.fleet
        if fleet is not self._drawn_for:
            self._drawn_for = fleet
            self._targets.clear()
            self._hear(fleet)
        key = (deployment.server.name, deployment.model.name)
        target = self._targets.get(key)
        if target is None:
            server = deployment.server.name
            target = self._targets[key] = self._attempts.target(
                deployment, self._catalog.load_of(server), self.breakers.get(server, deployment.model.name)
            )
        return target

    async def _translated(self, ctx: RequestContext, candidate: Candidate) -> None:
        """One try on an engine that speaks another wire, or on one whose answer another may have to go on with."""
        client, endpoint, call, deployment = ctx.client, ctx.endpoint, ctx.call, candidate.deployment
        target = self._target(deployment)
        engine = target.engine
        head = self._heads.of(deployment, ctx.decision, ctx.attempts)
        told = self._told(ctx, candidate)
        content = ctx.content = ctx.content or whole(endpoint, call, self.defaults)
        answer = without_engine(call, content)
        asked = call
        if call.use_defaults and self.defaults.stream and not call.stream:
            asked = replace(call, stream=True)
        outgoing: EngineRequest | None = None
        try:
            if ctx.stream is not None:
                outgoing = ctx.stream.create_request(engine, call, deployment.model)
            elif answer is None:
                outgoing = engine.translate_request(asked, content, deployment.model)
        except Unsupported:
            if call.operation is not Operation.COUNT:
                raise
            answer = ModelResponse(usage=count(call))
        if answer is not None:
            deliver(client, endpoint, call, answer, head, told)
        elif outgoing is not None:
            await self._exchange(ctx, asked, outgoing, target, (head, told))
        elif ctx.stream is not None and ctx.stream.interrupted is not None:
            ctx.stream.interrupted.complete("length")

    async def _exchange(
        self,
        ctx: RequestContext,
        asked: Call,
        outgoing: EngineRequest,
        target: Target,
        shown: tuple[bytes, Provenance],
    ) -> None:
        """Ask, and on 404 once more where the engine's older versions differ. `asked` is the call as the engine gets
        it; `shown` is what the client is told of who answers."""
        client, endpoint, call, (head, told) = ctx.client, ctx.endpoint, ctx.call, shown
        deployment, content, step = target.deployment, ctx.content, outgoing
        while content is not None:
            if step.fallback is not None and self._missing.lacks(deployment.url, step.path, self._clock()):
                step = step.fallback
                continue
            reader = target.engine.create_reader(asked, content, step)
            relay = ctx.relay = self._relay(client, call, endpoint, head, reader, told, step.may_be_polled, ctx.stream)
            try:
                await self._attempts.run(target, step, relay, client)
                if isinstance(relay, Polled):
                    await relay.follow(deployment, self._fetch, target.timeouts.total)
                return
            except PenstockError as error:
                if relay.status == 404 and call.operation is Operation.COUNT:
                    deliver(client, endpoint, call, ModelResponse(usage=count(call)), head, told)
                    return
                if relay.status != 404 or step.fallback is None or isinstance(error, ModelNotFound):
                    raise
                self._missing.note(deployment.url, step.path, self._clock())
                step = step.fallback

    def _relay(
        self,
        client: Client,
        call: Call,
        endpoint: Endpoint,
        head: bytes,
        reader: ResponseReader,
        told: Provenance,
        polled: bool,
        stream: ResumableStream | None,
    ) -> Translated:
        loop = self._attempts.loop
        if stream is not None:
            return Resumable(client, call, endpoint, head, loop, reader, told, stream)
        return (Polled if polled else Translated)(client, call, endpoint, head, loop, reader, told)

    def _told(self, ctx: RequestContext, candidate: Candidate) -> Provenance:
        call, decision, attempt, deployment = ctx.call, ctx.decision, ctx.attempts, candidate.deployment
        server = deployment.server
        fallback = decision.fallback or attempt > 1
        return Provenance(
            request_id=ctx.client.request_id,
            created=self._wall(),
            requested="" if call.is_automatic else call.model,
            server=server.name,
            server_url=deployment.url,
            provider=server.kind,
            model=deployment.model.name,
            is_fallback=fallback,
            reason=decision.reason if attempt == 1 else ANOTHER,
            warning=candidate.warning or decision.warning,
            is_distributed=self.defaults.distributed
            and sum(status.server.kind == server.kind for status in self._catalog.fleet.statuses) > 1,
            is_simulated=server.is_simulated,
            complexity=decision.level,
            task_type=decision.task_type,
            used_fast_model=candidate.size_class == "fast",
            queue_seconds=ctx.queue_seconds,
        )

    def _note(self, error: PenstockError, target: Target, permits: Permits, relay: RelayedResponse | None) -> None:
        """Blame whom a failed try says something about."""
        now, server, live = self._clock(), target.deployment.server.name, target.live
        target.guard.record_failure(permits, error, now, relay is not None and relay.status >= 300)
        if not error.retryable:
            return
        live.consecutive_failures += 1
        live.last_failed_at = now
        live.traffic_share = live.traffic_share or self.breakers.share_function(server)
        if not isinstance(error, UpstreamStatus):
            self._suspect(server)


def _beginning(client: Client) -> Callable[[], bool]:
    """What tells whether a trial's answer has begun."""
    return lambda: client.response_started
