"""Preference for PRIMARY over SECONDARY servers that start about as soon. FALLBACK servers have their own tier."""

from penstock.domain.fleet import Priority
from penstock.gateway.routing.costs.base import Cost, CostContext

PRIORITY_SECONDS = {Priority.PRIMARY: 0.0, Priority.SECONDARY: 0.5, Priority.FALLBACK: 4.0}


def _estimate_seconds(context: CostContext) -> float:
    return PRIORITY_SECONDS[context.deployment.server.priority]


def _describe_cost(context: CostContext) -> str:
    return context.deployment.server.priority.name


COST = Cost("priority", _estimate_seconds, _describe_cost, is_fixed=True)
