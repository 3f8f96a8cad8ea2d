"""Penalty for a server that failed a call recently. A server that recovers gets its traffic back gradually."""

from penstock.gateway.routing.costs.base import Cost, CostContext

AVOID_SECONDS = 10.0
"""Time after a failure in which the penalty falls to 0."""
FAILURE_SECONDS = 20.0
"""Penalty right after a failure. A server that fails fast looks free and quick; the penalty exceeds that advantage."""
MAX_FAILURES = 3
SLOW_START_SECONDS = 4.0
"""Penalty at a tenth of the usual traffic share. It falls as the share grows."""


def _estimate_failure_cost(context: CostContext) -> float:
    load = context.load
    age = context.now - load.last_failed_at
    if not load.last_failed_at or age >= AVOID_SECONDS:
        return 0.0
    return FAILURE_SECONDS * min(max(load.consecutive_failures, 1), MAX_FAILURES) * (1 - max(0.0, age) / AVOID_SECONDS)


def _find_traffic_share(context: CostContext) -> float:
    traffic_share = context.load.traffic_share
    return 1.0 if traffic_share is None else traffic_share(context.deployment.model.name, context.now)


def _estimate_seconds(context: CostContext) -> float:
    share = _find_traffic_share(context)
    slow_start = 0.0 if share >= 1.0 else SLOW_START_SECONDS * (0.1 / max(share, 0.05)) * (1 + context.load.running)
    return _estimate_failure_cost(context) + slow_start


def _describe_cost(context: CostContext) -> str:
    share = _find_traffic_share(context)
    if not context.deployment.is_up:
        return "down at the last health check"
    if share <= 0.0:
        return "blocked for a while after failures"
    if share < 1.0:
        return f"recovering, with {share:.0%} of its traffic"
    return "failed a call recently" if _estimate_failure_cost(context) else "up"


COST = Cost("health", _estimate_seconds, _describe_cost, is_rare=True)
