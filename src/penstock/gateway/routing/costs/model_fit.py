"""Preference for the model that suits the task best. Oversized models cost more, so that they stay free."""

from penstock.gateway.routing.costs.base import Cost, CostContext

MISFIT_SECONDS = 20.0
"""Seconds for a misfit of 1. A 12B model has a misfit of 0.1 for a greeting: it must start 2 s sooner to be chosen."""


def _estimate_seconds(context: CostContext) -> float:
    return MISFIT_SECONDS * context.misfit


def _describe_cost(context: CostContext) -> str:
    return f"{context.deployment.model.name} fits the task to {1 - context.misfit:.0%}"


COST = Cost("fit", _estimate_seconds, _describe_cost, is_fixed=True)
