"""The story of a call, top to bottom: read → judge → route → lease → attempt → relay → settle."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from penstock.dialects.base import Endpoint
from penstock.domain.errors import ClientGone, ModelNotFound, PenstockError, ShuttingDown
from penstock.domain.fleet import Deployment
from penstock.domain.request import Call
from penstock.domain.response import Usage
from penstock.domain.routing_decision import Decision
from penstock.gateway.client import Client
from penstock.gateway.coroutine_runner import Outcome
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.swap_queue import SwapQueue
from penstock.gateway.fleet.throughput_learning import learn_throughput
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.metrics.series import CLIENT_GONE, OK, CallOutcome
from penstock.gateway.request_context import UNROUTED, RequestContext
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.complexity.request_profile import profile_request
from penstock.gateway.routing.router import Router
from penstock.gateway.upstream.failover import Failover

log = logging.getLogger("penstock.gateway")

MOST_DECISIONS = 1000
MOST_TURNS = 32
"""How often a call waits for its turn and is then decided otherwise, before it goes where it was decided last."""
FIRST_LESSONS, EVERY = 256, 16
"""The first calls are all learnt from, of later ones one of so many, and all that loaded a model."""
_AUTO = ("", "auto")
_NO_USAGE = Usage(estimated=True)


class Decided(NamedTuple):
    """A decision and what became of it, for people who ask why. `at` is monotonic seconds; `requested` is the model
    that the caller named. The call itself is not kept: it has the text."""

    at: float
    request_id: bytes
    wire: str
    requested: str
    decision: Decision
    deployment: Deployment | None
    attempts: int
    code: str


class Waiting(Outcome[PenstockError | None]):
    """A call that waits for its turn: what its client's connection may do to it. None: its turn has come."""

    def granted(self) -> None:
        """Its turn has come."""
        self.settle(None)

    def abort(self, error: PenstockError) -> None:
        """Its client is gone."""
        self.settle(error)

    def pause(self) -> None:
        """There is nothing to pause."""

    def resume(self) -> None:
        """There is nothing to resume."""


class Pipeline:
    """Runs calls, one coroutine each. `clock` gives monotonic seconds.

    `look_again` begins a look at the servers for what may be new there; None: there is no need. `look_at` has one
    server looked at soon.
    """

    def __init__(
        self,
        catalog: Catalog,
        router: Router,
        failover: Failover,
        meter: Meter,
        clock: Callable[[], float],
        look_again: "Callable[[], asyncio.Future[None] | None]" = lambda: None,
        classifier: Classifier | None = None,
        look_at: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.catalog = catalog
        self.router = router
        self.failover = failover
        self._unsent = meter.series_of("", "")
        self.running = 0
        self.draining = False
        self.classifier = classifier or Classifier()
        self._decided: deque[tuple[Any, ...]] = deque(maxlen=MOST_DECISIONS)  # the fields of Decided: cheaper to make
        self.levels: Counter[str] = Counter()
        self._lessons = 0
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._look_again = look_again
        self._look_at_server = look_at

    async def run(self, client: Client, endpoint: Endpoint, body: bytes, content_type: bytes) -> None:
        """Answer one call. Whatever happens, the client has an answer or is gone, and everything taken is returned."""
        ctx = RequestContext(client, endpoint, self._clock())
        self.running += 1
        try:
            if self.draining:
                raise ShuttingDown("the gateway is stopping; try again in a moment", retry_after=2)
            call = ctx.call = endpoint.parse_request(body, content_type)
            if client.routing_hints or call.model[:4].lower() in _AUTO:
                self._prepare(call, client, endpoint)
            try:
                ctx.decision = self.router.decide(self.catalog.fleet, call, self.catalog.loads, ctx.started_at)
            except ModelNotFound:
                ctx.decision = await self._decide_anew(ctx)
            first = ctx.decision.candidates[0].deployment
            if first.on_demand and self.catalog.load_of(first.server.name).residency.smallest_overflow:
                await self._in_turn(ctx)
            await self.failover.forward(ctx)
            if call.defaults or ctx.decision.level or ctx.decision.fallback or ctx.attempts > 1:
                self._log(ctx)
        except PenstockError as error:
            ctx.failure = error
        except Exception:
            log.exception("a call to %s failed in the gateway itself", endpoint.wire)
            ctx.failure = PenstockError("the gateway failed; its log says how")
        finally:
            self.running -= 1
            client.upstream = None
            failure = ctx.failure
            if ctx.call.session and ctx.deployment is not None and failure is None:
                self.router.ranker.note(ctx.call.session, ctx.deployment.server.name)
            if failure is not None and not client.is_disconnected and not client.response_started:
                client.send_error(failure)
            self._settle(ctx)

    def _prepare(self, call: Call, client: Client, endpoint: Endpoint) -> None:
        """What the headers ask of routing; and how hard the call is, where its model is ours to choose."""
        if client.routing_hints:
            call.max_wait, call.session = client.routing_hints
        if self.router.should_select_model(self.catalog.fleet, call):
            call.profile = profile_request(endpoint.decode_content(call), self.classifier)
            self.levels[call.profile.level.label] += 1

    @property
    def decisions(self) -> list[Decided]:
        """The last decisions, oldest first."""
        return [Decided(*fields) for fields in self._decided]

    def decide(self, call: Call) -> Decision:
        """The decision for a call at this moment."""
        return self.router.decide(self.catalog.fleet, call, self.catalog.loads, self._clock())

    async def _decide_anew(self, ctx: RequestContext) -> Decision:
        """The decision after a look at what is there now: the model may have been pulled a moment ago."""
        looks = self._look_again()
        if looks is not None:
            with contextlib.suppress(asyncio.CancelledError):  # the gateway is stopping
                await looks
        if ctx.client.is_disconnected:
            raise ClientGone("the client hung up")
        return self.decide(ctx.call)

    async def _in_turn(self, ctx: RequestContext) -> None:
        """Wait until the chosen server can have the model without throwing out one at work; then decide again."""
        client = ctx.client
        for _ in range(MOST_TURNS):
            deployment = ctx.decision.candidates[0].deployment
            if not deployment.on_demand:
                break
            waiting, turns, since = Waiting(), self.catalog.load_of(deployment.server.name).swap_queue, self._clock()
            ticket = turns.request(
                deployment.model.name, deployment.model.size, deployment.slots, since, waiting.granted
            )
            if ticket is None:
                break
            client.upstream = waiting
            timer = self._loop.call_later(turns.fairness, self._look_at, turns)
            gone = await waiting
            timer.cancel()
            client.upstream = None
            ctx.queue_seconds += self._clock() - since
            if gone is not None:
                turns.cancel(ticket, self._clock())
                raise gone
            ctx.decision = self.decide(ctx.call)
            now = ctx.decision.candidates[0].deployment
            if (now.server.name, now.model.name) == (deployment.server.name, deployment.model.name):
                break

    def _look_at(self, turns: SwapQueue) -> None:
        turns.grant_next(self._clock())

    def _log(self, ctx: RequestContext) -> None:
        deployment = ctx.deployment
        if deployment is None:
            return
        fallback = ctx.decision.fallback or ctx.attempts > 1
        log.info("Distributed routing: %s @ %s (fallback: %s)", deployment.model.name, deployment.server.name, fallback)

    def _settle(self, ctx: RequestContext) -> None:
        """Tell the meter what the call was and cost, the router how it went, and keep why it went there."""
        relay, deployment, first_at, now = ctx.relay, ctx.deployment, ctx.client.first_byte_at, self._clock()
        begin, client, endpoint, call, decision = ctx.started_at, ctx.client, ctx.endpoint, ctx.call, ctx.decision
        usage = _NO_USAGE
        if relay is not None:  # a stream that does not tell: about a token a piece
            usage = relay.usage or Usage(completion_tokens=relay.piece_count, estimated=True)
        failure = ctx.failure
        code = OK if failure is None else failure.code
        attempts = ctx.attempts
        if decision is not UNROUTED:
            self._decided.append((begin, client.id, endpoint.wire, call.model, decision, deployment, attempts, code))
            if failure is None and attempts == 1:
                self._lessons += 1
                if self._lessons < FIRST_LESSONS or not self._lessons % EVERY or ctx.model_was_loaded is False:
                    sent = begin + ctx.queue_seconds  # a wait for a turn says nothing of the server's speed
                    self._learn(ctx, first_at - sent if first_at else 0.0, now - sent, usage)
        series = (ctx.series or self._unsent)[endpoint.wire]
        first_byte = first_at - begin if first_at else 0.0
        outcome = CallOutcome(CLIENT_GONE if client.is_disconnected else code, usage, first_byte, now - begin, now)
        series.record(outcome, is_streamed=call.stream, is_fallback=attempts > 1)

    def _learn(self, ctx: RequestContext, first: float, total: float, usage: Usage) -> None:
        """What the call teaches. One that loaded a model is a reason to look which others that has thrown out."""
        deployment = ctx.deployment
        if deployment is None or ctx.relay is None:
            return
        if not ctx.model_was_loaded:
            self._look_at_server(deployment.server.name)
        learn_throughput(
            self.catalog.load_of(deployment.server.name),
            deployment,
            usage,
            held=ctx.model_was_loaded,
            ahead=ctx.running_before,
            first=first if ctx.call.stream else 0.0,
            total=total,
            most=ctx.call.max_tokens,
        )
