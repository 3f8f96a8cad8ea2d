"""Up before down, and a server that has just failed a call comes later for a while."""

from penstock.domain.fleet import Deployment
from penstock.gateway.routing.signals.base import Signal, Situation

AVOID_SECONDS = 10.0


def _score(deployment: Deployment, situation: Situation) -> float:
    if not deployment.up:
        return 0.0
    if situation.failed_at and situation.now - situation.failed_at < AVOID_SECONDS:
        return 0.5
    return 1.0


def _words(deployment: Deployment, situation: Situation) -> str:
    return {0.0: "down at the last look", 0.5: "failed a call just now", 1.0: "up"}[_score(deployment, situation)]


SIGNAL = Signal("health", 150.0, _score, _words)
