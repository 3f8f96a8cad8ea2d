"""One attempt to get a response from a candidate."""

from collections.abc import Callable

from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Defaults, Operation
from penstock.domain.routing_decision import Candidate
from penstock.engines.error_messages import is_role_refusal
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.lease import Lease, LeaseContext
from penstock.gateway.upstream.provenance import Origin, create_provenance, provenance_headers
from penstock.gateway.upstream.relay.factory import create_passthrough_relay
from penstock.gateway.upstream.round_trip import RoundTrips
from penstock.gateway.upstream.targets import Target
from penstock.gateway.upstream.translated_attempt import TranslatedAttempts


class Attempts:
    """Makes attempts. `defaults` are the settings for calls, replaced when settings change.

    `wall_clock` returns the time of day in seconds.
    """

    def __init__(
        self,
        leases: LeaseContext,
        round_trips: RoundTrips,
        translated: TranslatedAttempts,
        catalog: Catalog,
        defaults: Defaults,
        wall_clock: Callable[[], float],
    ) -> None:
        self.defaults = defaults
        self.loop = round_trips.loop
        self.court = leases.court
        self._leases = leases
        self._round_trips = round_trips
        self._translated = translated
        self._catalog = catalog
        self._wall_clock = wall_clock

    async def run(self, ctx: RequestContext, candidate: Candidate, target: Target) -> PenstockError | None:
        """Make one attempt. Return the error that stopped it, or None when a response has been delivered."""
        ctx.start_attempt(target.deployment, target.series)
        with Lease(self._leases, ctx, target) as lease:
            headers = provenance_headers(target, ctx.decision, ctx.attempts)
            if ctx.stream is None and ctx.endpoint.wire in target.engine.native_paths:
                relay = ctx.relay = create_passthrough_relay(ctx, headers)
                relay.engine = target.engine
                request = target.engine.forward_request(ctx.call, target.deployment.model)
                data = self._round_trips.start(target, request, relay)
                try:
                    # Usually there is nothing left to finish, and its coroutine would cost every call 0.3 µs.
                    if relay.connection is None or await relay is not None or relay.status >= 300:
                        await self._round_trips.finish(target, data, relay)
                except PenstockError as error:
                    if relay.status < 400 or not _can_translate_roles(ctx.call, error):
                        raise
                    # Translation merges the system messages that the model's template has refused.
                    await self._translated.run(ctx, target, self._create_origin(ctx, candidate, headers), self.defaults)
            else:
                await self._translated.run(ctx, target, self._create_origin(ctx, candidate, headers), self.defaults)
            if ctx.call.operation is Operation.MANAGE:
                self._leases.request_probe(target.deployment.server.name)  # its list of models has changed
        return lease.error

    def _create_origin(self, ctx: RequestContext, candidate: Candidate, headers: bytes) -> Origin:
        kind = candidate.deployment.server.kind
        servers = sum(status.server.kind == kind for status in self._catalog.fleet.statuses)
        is_distributed = self.defaults.distributed and servers > 1
        return Origin(headers, create_provenance(ctx, candidate, self._wall_clock(), is_distributed))


def _can_translate_roles(call: Call, error: PenstockError) -> bool:
    """Return whether a server has refused the roles of a chat's messages, and translation has other ones."""
    if call.operation is not Operation.CHAT or not is_role_refusal(error.message):
        return False
    return b'"developer"' in call.body or call.body.count(b'"system"') > 1
