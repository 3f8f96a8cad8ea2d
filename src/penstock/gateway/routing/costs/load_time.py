"""The time to load a model that is not in memory, and what throwing another one out costs those who still want it."""

from penstock.gateway.routing.costs.base import Signal, Situation


def _cost(situation: Situation) -> float:
    if situation.resident:
        return 0.0
    live, load = situation.live, situation.rates.load_seconds
    if live.residency.can_fit(situation.deployment.model.name, situation.deployment.model.size):
        return load
    # the ones thrown out must end first, and are loaded again later: two models do not push each other out for a trifle
    busy = 0.5 * situation.rates.service_seconds if live.running else 0.0
    return 2.0 * load + busy


def _words(situation: Situation) -> str:
    if situation.resident:
        return "in memory"
    room = (
        ""
        if situation.live.residency.can_fit(situation.deployment.model.name, situation.deployment.model.size)
        else ", and another must go"
    )
    return f"to be loaded, {situation.rates.load_seconds:.1f} s{room}"


SIGNAL = Signal("residency", _cost, _words, waits=True)
