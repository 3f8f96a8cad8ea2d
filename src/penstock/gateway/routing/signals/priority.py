"""PRIMARY before SECONDARY while it has a free slot; FALLBACK only when no other can."""

from penstock.domain.fleet import Deployment, Priority
from penstock.gateway.routing.signals.base import Signal, Situation

_SCORES = {Priority.PRIMARY: 1.0, Priority.SECONDARY: 0.85, Priority.FALLBACK: 0.0}


def _score(deployment: Deployment, _: Situation) -> float:
    return _SCORES[deployment.server.priority]


def _words(deployment: Deployment, _: Situation) -> str:
    return deployment.server.priority.name


SIGNAL = Signal("priority", 40.0, _score, _words)
