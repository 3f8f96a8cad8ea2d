"""PRIMARY before SECONDARY while it can begin about as soon. FALLBACK is a tier of its own, behind all others."""

from penstock.domain.fleet import Priority
from penstock.gateway.routing.costs.base import Signal, Situation

SECONDS = {Priority.PRIMARY: 0.0, Priority.SECONDARY: 0.5, Priority.FALLBACK: 4.0}


def _cost(situation: Situation) -> float:
    return SECONDS[situation.deployment.server.priority]


def _words(situation: Situation) -> str:
    return situation.deployment.server.priority.name


SIGNAL = Signal("priority", _cost, _words, fixed=True)
