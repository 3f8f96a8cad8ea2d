"""The wait for a slot: none while one is free, else as long as the calls ahead take, in rounds of all slots.

A server that loads models on demand has its slots for each of them.
"""

from penstock.gateway.routing.costs.base import Signal, Situation

SHARING = 0.05
"""Seconds that the last free slot costs: calls at once slow each other, and equals share the load by it."""


def _cost(situation: Situation) -> float:
    deployment, live = situation.deployment, situation.live
    slots = deployment.slots
    running = live.swap_queue.running.get(deployment.model.name, 0) if deployment.on_demand else live.running
    if running < slots:
        return SHARING * running / slots
    return SHARING + (running - slots + 1) / slots * situation.rates.service_seconds


def _words(situation: Situation) -> str:
    return f"{situation.live.running} running on {situation.deployment.slots} slots"


SIGNAL = Signal("queue", _cost, _words, waits=True)
