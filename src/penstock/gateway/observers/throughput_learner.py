"""Observer that learns how fast servers are from the calls that they answered."""

from collections.abc import Callable

from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.learning import AnsweredCall, learn_throughput
from penstock.gateway.request_context import RequestContext

FIRST_CALLS = 256
"""All of the first calls are learned from."""
MIN_INTERVAL = 0.05
MAX_SKIPPED_CALLS = 63
"""After them, calls that end less than MIN_INTERVAL seconds after a sample are skipped, at most so many in a row."""


class ThroughputLearner:
    """Updates the throughput estimates of servers. `probe_server(name)` has a server probed soon."""

    def __init__(self, catalog: Catalog, probe_server: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._probe_server = probe_server
        self._remaining_first = FIRST_CALLS
        self._calls_to_skip = 0
        self._skip_until = 0.0

    def observe_call(self, ctx: RequestContext) -> None:
        """Learn from a call that is in the sample, if it succeeded at the first attempt.

        A call that loaded a model is always in the sample. Learning costs a call four times what all else here does.
        """
        if ctx.attempts != 1 or ctx.failure is not None:
            return
        if self._calls_to_skip and ctx.finished_at < self._skip_until and ctx.model_was_loaded:
            self._calls_to_skip -= 1
            return
        self._learn(ctx)
        if self._remaining_first:
            self._remaining_first -= 1
        else:
            self._calls_to_skip = MAX_SKIPPED_CALLS
            self._skip_until = ctx.finished_at + MIN_INTERVAL

    def _learn(self, ctx: RequestContext) -> None:
        """Update the estimates. If the call loaded a model, have the server probed to see what was evicted."""
        deployment = ctx.deployment
        if deployment is None or ctx.relay is None:
            return
        server = deployment.server.name
        if not ctx.model_was_loaded:
            self._probe_server(server)
        sent_at = ctx.started_at + ctx.queue_seconds  # time in the swap queue says nothing about the server's speed
        first_byte_at = ctx.client.first_byte_at
        answered = AnsweredCall(
            ctx.usage,
            ctx.model_was_loaded,
            ctx.running_before,
            first_byte_seconds=first_byte_at - sent_at if first_byte_at and ctx.call.stream else 0.0,
            total_seconds=ctx.finished_at - sent_at,
            max_tokens=ctx.call.max_tokens,
        )
        learn_throughput(self._catalog.load_of(server), deployment, answered)
