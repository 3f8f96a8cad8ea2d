"""Time to load a model that is not in memory, and the cost of evicting another one for those who still need it."""

from penstock.gateway.routing.costs.base import Cost, CostContext


def _estimate_seconds(context: CostContext) -> float:
    if context.is_loaded:
        return 0.0
    load_seconds, model = context.throughput.load_seconds, context.deployment.model
    if context.load.residency.can_fit(model.name, model.size):
        return load_seconds
    # Running calls of the evicted models must end first, and the models are loaded again later. Counting that keeps two
    # models from evicting each other for a small gain.
    busy_seconds = 0.5 * context.throughput.service_seconds if context.load.running else 0.0
    return 2.0 * load_seconds + busy_seconds


def _describe_cost(context: CostContext) -> str:
    if context.is_loaded:
        return "in memory"
    model = context.deployment.model
    eviction = "" if context.load.residency.can_fit(model.name, model.size) else ", and another must be evicted"
    return f"to be loaded, {context.throughput.load_seconds:.1f} s{eviction}"


COST = Cost("residency", _estimate_seconds, _describe_cost, is_wait=True)
