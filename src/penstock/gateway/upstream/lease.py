"""Lease of a deployment for one attempt: what the attempt takes from shared state, and how it is returned."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from penstock.domain.errors import PenstockError, UpstreamStatus
from penstock.domain.fault import Fault
from penstock.gateway.client import Client
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.blame.court import Court
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS
from penstock.gateway.upstream.targets import Target, Targets


class LeaseContext:
    """State that all leases share.

    `request_probe(server name)` has a server probed soon; `clock` returns monotonic seconds; `court` decides whose
    fault failures are; `leases_taken` is a count.
    """

    __slots__ = ("clock", "court", "leases_taken", "request_probe", "targets")

    def __init__(self, targets: Targets, request_probe: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.targets = targets
        self.request_probe = request_probe
        self.clock = clock
        self.court = Court()
        self.leases_taken = 0


class Lease:
    """One attempt's hold on a deployment, taken when it is created and returned when its `with` block ends.

    It holds one of the server's running calls, a place in its swap queue and permits of its breakers, and it detaches
    the server's connection from the client: the connection may serve another call by then. A PenstockError that ends
    the block is recorded against whoever is to blame, kept in `error`, and suppressed.
    """

    __slots__ = ("_context", "_ctx", "_permits", "_target", "error")

    def __init__(self, context: LeaseContext, ctx: RequestContext, target: Target) -> None:
        self._context = context
        self._ctx = ctx
        self._target = target
        self._permits = NO_PERMITS
        self.error: PenstockError | None = None
        load, breakers, deployment = target.load, target.breakers, target.deployment
        if breakers.server.is_tracking or breakers.model.is_tracking:
            has_started = None if ctx.client.response_started else _response_started(ctx.client)
            self._permits = breakers.acquire(context.clock(), has_started)
        ctx.running_before = load.running
        load.running += 1
        context.leases_taken += 1
        load.last_call_number = context.leases_taken
        if deployment.on_demand:
            model = deployment.model
            ctx.model_was_loaded = load.swap_queue.start(model.name, model.size, context.clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        target = self._target
        load, deployment = target.load, target.deployment
        self._ctx.client.upstream = None
        if kind is None:
            load.consecutive_failures = 0
            breakers = target.breakers
            if breakers.server.is_tracking or breakers.model.is_tracking:
                breakers.record_success(self._permits, self._context.clock())
        elif isinstance(error, PenstockError):
            error.drop_traces()
            self.error = error
            self._record_failure(error)
        else:
            target.breakers.release(self._permits)
        load.running -= 1
        if deployment.on_demand:
            load.swap_queue.finish(deployment.model.name, self._context.clock())
        return self.error is not None

    def _record_failure(self, error: PenstockError) -> None:
        ctx, target, context = self._ctx, self._target, self._context
        relay, load, deployment = ctx.relay, target.load, target.deployment
        now, server = context.clock(), deployment.server.name
        answered = relay is not None and relay.status >= 300
        fault = ctx.fault = context.court.judge(ctx.call, target, error, answered, now)
        target.breakers.record_failure(self._permits, error, now, fault, answered)
        if fault is Fault.UNPROVEN:
            load.consecutive_failures += 1
        if not (fault.is_charged or fault is Fault.BUSY):
            return
        load.consecutive_failures += 1
        load.last_failed_at = now
        load.traffic_share = load.traffic_share or context.targets.breakers.share_function(server)
        if not isinstance(error, UpstreamStatus):
            context.request_probe(server)


def _response_started(client: Client) -> Callable[[], bool]:
    """Return a function that tells whether a probe's response has started."""
    return lambda: client.response_started
