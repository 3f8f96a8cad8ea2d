"""A free slot before a full server, then fewest running per slot."""

from penstock.domain.fleet import Deployment
from penstock.gateway.routing.signals.base import Signal, Situation


def _score(deployment: Deployment, situation: Situation) -> float:
    free = 1.0 - situation.running / deployment.slots
    return 0.75 + free / 4 if free > 0 else 0.5 * deployment.slots / (situation.running + 1)


def _words(deployment: Deployment, situation: Situation) -> str:
    return f"{situation.running} running on {deployment.slots} slots"


SIGNAL = Signal("load", 20.0, _score, _words)
