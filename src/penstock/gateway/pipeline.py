"""Lifecycle of a call: read, route, wait for the swap queue, forward, finish."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from penstock.dialects.base import Endpoint
from penstock.dialects.json_body import UNREADABLE_ERRORS, create_unreadable_error
from penstock.domain.errors import ClientGone, ModelNotFound, PenstockError, ShuttingDown, create_internal_error
from penstock.gateway.client import Client, RoutingHints
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.observers.base import CallObserver
from penstock.gateway.request_context import RequestContext
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.complexity.request_profile import profile_request
from penstock.gateway.routing.router import Router
from penstock.gateway.swap_wait import SwapWait
from penstock.gateway.upstream.failover import Failover

log = logging.getLogger("penstock.gateway")

_AUTO_PREFIXES = ("", "auto")
_NO_HINTS = RoutingHints()


class Pipeline:
    """Runs calls, one coroutine each, and hands each finished call to `observers`, in their order.

    `clock` gives monotonic seconds. `probe_servers` starts a probe of the servers and returns its future, or None when
    nothing can have changed since the last one.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        router: Router,
        failover: Failover,
        observers: Iterable[CallObserver],
        classifier: Classifier,
        clock: Callable[[], float],
        probe_servers: "Callable[[], asyncio.Future[None] | None]",
    ) -> None:
        self.running = 0
        self.draining = False
        self.classifier = classifier
        self._catalog = catalog
        self._router = router
        self._failover = failover
        self._observe_calls = tuple(observer.observe_call for observer in observers)
        self._logged_errors: set[tuple[str, type[Exception]]] = set()
        self._clock = clock
        self._probe_servers = probe_servers
        self._swap_wait = SwapWait(catalog, self._update_decision, clock)

    async def run_call(self, client: Client, endpoint: Endpoint, body: bytes, content_type: bytes) -> None:
        """Answer one call.

        Whatever happens, the client has a response or has disconnected at the end, and every lease is released.
        """
        ctx = RequestContext(client, endpoint, self._clock())
        self.running += 1
        try:
            self._read_call(ctx, body, content_type)
            if not self._route_call(ctx):
                await self._probe_and_route(ctx)
            if self._swap_wait.is_needed(ctx):
                await self._swap_wait.wait_for_swap(ctx)
            await self._failover.forward(ctx)
        except PenstockError as error:
            error.drop_traces()
            ctx.failure = error
        except Exception:
            log.exception("Call %s to %s failed because of an error in the gateway.", client.request_id, endpoint.wire)
            ctx.failure = create_internal_error()
        finally:
            self.running -= 1
            self._finish_call(ctx)

    def _read_call(self, ctx: RequestContext, body: bytes, content_type: bytes) -> None:
        """Read the call, with what its headers ask of routing and, where the gateway selects the model, its profile."""
        if self.draining:
            raise ShuttingDown("The gateway is stopping; try again in a moment.", retry_after=2)
        try:
            self._parse_call(ctx, body, content_type)
        except UNREADABLE_ERRORS as error:
            raise create_unreadable_error(error) from None

    def _parse_call(self, ctx: RequestContext, body: bytes, content_type: bytes) -> None:
        call = ctx.call = ctx.endpoint.parse_request(body, content_type)
        hints = ctx.client.routing_hints
        if hints is None and call.model[:4].lower() not in _AUTO_PREFIXES:
            return
        profile = None
        if self._router.should_select_model(self._catalog.fleet, call):
            profile = profile_request(ctx.endpoint.decode_content(call), self.classifier)
        max_wait, session = hints or _NO_HINTS
        ctx.call = replace(call, max_wait=max_wait, session=session, profile=profile)

    def _route_call(self, ctx: RequestContext) -> bool:
        """Decide which servers may answer. Return False when none is known to have the model."""
        catalog = self._catalog
        try:
            ctx.decision = self._router.decide(catalog.fleet, ctx.call, catalog.loads, ctx.started_at)
        except ModelNotFound:
            return False
        return True

    async def _probe_and_route(self, ctx: RequestContext) -> None:
        """Route after a probe of the servers: the model may have been pulled a moment ago."""
        probe = self._probe_servers()
        if probe is not None:
            with contextlib.suppress(asyncio.CancelledError):  # the gateway is stopping
                await probe
        if ctx.client.is_disconnected:
            raise ClientGone("The client disconnected.")
        self._update_decision(ctx)

    def _update_decision(self, ctx: RequestContext) -> None:
        """Decide again, on the fleet and the load of this moment."""
        catalog = self._catalog
        ctx.decision = self._router.decide(catalog.fleet, ctx.call, catalog.loads, self._clock())

    def _finish_call(self, ctx: RequestContext) -> None:
        """Send the error, if there is one and the response has not started, and hand the call to the observers."""
        client, failure = ctx.client, ctx.failure
        client.upstream = None
        if failure is not None and not client.is_disconnected and not client.response_started:
            self._send_error(client, failure)
        ctx.finish(self._clock())
        for observe_call in self._observe_calls:
            try:
                observe_call(ctx)
            except Exception as error:
                self._log_observer_error(observe_call.__qualname__, error)

    def _send_error(self, client: Client, failure: PenstockError) -> None:
        """Send an error. If it cannot be rendered the connection is closed, so that the client does not wait."""
        try:
            client.send_error(failure)
        except Exception:
            log.exception("An error of code %s cannot be sent.", failure.code)
            client.abort()

    def _log_observer_error(self, observer: str, error: Exception) -> None:
        """Log the first error of each type that an observer raises: a broken one would fill the log."""
        key = (observer, type(error))
        if key not in self._logged_errors:
            self._logged_errors.add(key)
            log.error(
                "%s failed for a call. Further errors of this type are not logged.",
                observer,
                exc_info=error,
            )
