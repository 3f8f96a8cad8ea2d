"""Time to wait for a free slot: 0 if one is free, else the service time of the calls ahead, spread over all slots.

A server that loads models on demand has its slots once per model.
"""

from penstock.gateway.routing.costs.base import Cost, CostContext

SHARED_SLOT_SECONDS = 0.05
"""Cost of the last free slot. Parallel calls slow each other down; this also spreads load over equal servers."""


def _estimate_seconds(context: CostContext) -> float:
    deployment, load = context.deployment, context.load
    slots = deployment.slots
    running = load.swap_queue.running.get(deployment.model.name, 0) if deployment.on_demand else load.running
    if running < slots:
        return SHARED_SLOT_SECONDS * running / slots
    return SHARED_SLOT_SECONDS + (running - slots + 1) / slots * context.throughput.service_seconds


def _describe_cost(context: CostContext) -> str:
    return f"{context.load.running} running on {context.deployment.slots} slots"


COST = Cost("queue", _estimate_seconds, _describe_cost, is_wait=True)
