"""Waits until the chosen server can have the call's model in memory without evicting one that is at work."""

import asyncio
from collections.abc import Callable

from penstock.domain.errors import PenstockError
from penstock.gateway.client import CancellableSource, fed_by
from penstock.gateway.coroutine_runner import Outcome
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.request_context import RequestContext

MAX_WAITS = 32
"""Times that a call is granted a server and then routed to another one before it goes where it was routed last."""


class SwapWait:
    """Holds calls in the swap queues of servers.

    `update_decision` replaces the decision of a call; `clock` gives monotonic seconds.
    """

    def __init__(
        self, catalog: Catalog, update_decision: Callable[[RequestContext], None], clock: Callable[[], float]
    ) -> None:
        self._catalog = catalog
        self._update_decision = update_decision
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def is_needed(self, ctx: RequestContext) -> bool:
        """Return True if the first candidate loads models on demand and is known to run short of memory."""
        deployment = ctx.decision.candidates[0].deployment
        return deployment.on_demand and self._catalog.load_of(deployment.server.name).residency.smallest_overflow > 0

    async def wait_for_swap(self, ctx: RequestContext) -> None:
        """Wait until the call may start, and route it again after each wait, since servers have changed meanwhile.

        Raises the error of the client's disconnection.
        """
        for _ in range(MAX_WAITS):
            deployment = ctx.decision.candidates[0].deployment
            if not deployment.on_demand or not await self._wait_once(ctx):
                break
            self._update_decision(ctx)
            chosen = ctx.decision.candidates[0].deployment
            if (chosen.server.name, chosen.model.name) == (deployment.server.name, deployment.model.name):
                break

    async def _wait_once(self, ctx: RequestContext) -> bool:
        """Wait in the queue of the first candidate's server. Return False, at once, when the call may start now."""
        deployment = ctx.decision.candidates[0].deployment
        model, queue = deployment.model, self._catalog.load_of(deployment.server.name).swap_queue
        since = self._clock()
        granted: Outcome[PenstockError | None] = Outcome()
        ticket = queue.request(model.name, model.size, deployment.slots, since, lambda: granted.settle(None))
        if ticket is None:
            return False
        with fed_by(ctx.client, CancellableSource(granted.settle)):
            timer = self._loop.call_later(queue.fairness, lambda: queue.grant_next(self._clock()))
            error = await granted
            timer.cancel()
        ctx.queue_seconds += self._clock() - since
        if error is not None:
            queue.cancel(ticket, self._clock())
            raise error
        return True
