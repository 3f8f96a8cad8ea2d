"""A server that has just failed a call is avoided for a while, and one that comes back gets its traffic bit by bit."""

from penstock.gateway.routing.costs.base import Signal, Situation

AVOID_SECONDS = 10.0
COST = 20.0
"""Seconds for a failure just now. A server that fails fast looks free and quick: this is more than that saves."""
MOST_FAILURES = 3
SLOW_START = 4.0
"""Seconds at a tenth of the usual share, less the more it grows."""


def _failed(situation: Situation) -> float:
    live = situation.live
    ago = situation.now - live.last_failed_at
    if not live.last_failed_at or ago >= AVOID_SECONDS:
        return 0.0
    return COST * min(max(live.consecutive_failures, 1), MOST_FAILURES) * (1 - max(0.0, ago) / AVOID_SECONDS)


def _share(situation: Situation) -> float:
    share = situation.live.traffic_share
    return 1.0 if share is None else share(situation.deployment.model.name, situation.now)


def _cost(situation: Situation) -> float:
    share = _share(situation)
    slow = 0.0 if share >= 1.0 else SLOW_START * (0.1 / max(share, 0.05)) * (1 + situation.live.running)
    return _failed(situation) + slow


def _words(situation: Situation) -> str:
    share = _share(situation)
    if not situation.deployment.is_up:
        return "down at the last look"
    if share <= 0.0:
        return "left alone for a while after failures"
    if share < 1.0:
        return f"coming back, with {share:.0%} of its traffic"
    return "failed a call just now" if _failed(situation) else "up"


SIGNAL = Signal("health", _cost, _words, rare=True)
