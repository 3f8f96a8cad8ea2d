"""Observer that writes a log line about calls whose server the gateway selected."""

import logging

from penstock.gateway.request_context import RequestContext

log = logging.getLogger("penstock.gateway")


class AccessLog:
    """Logs which model and server answered a call, where the caller did not decide that."""

    def observe_call(self, ctx: RequestContext) -> None:
        """Write the line for a call that succeeded, if it was routed by defaults, by level or after a failure."""
        decision = ctx.decision
        is_fallback = ctx.attempts > 1 or decision.fallback
        if not (is_fallback or decision.level or ctx.call.use_defaults):
            return
        deployment = ctx.deployment
        if ctx.failure is not None or deployment is None:
            return
        log.info(
            "Distributed routing: %s @ %s (fallback: %s)", deployment.model.name, deployment.server.name, is_fallback
        )
