"""A server that has lately had this conversation still holds the beginning of its prompt: it need not read it again."""

from penstock.gateway.routing.costs.base import Signal, Situation

LEAST = 0.25
MOST = 5.0
"""Seconds that familiarity saves at least and at most: no reason to stand in a queue."""


def _cost(situation: Situation) -> float:
    if not (situation.familiar and situation.resident):
        return 0.0
    return -min(MOST, LEAST + 0.8 * situation.prompt / situation.rates.prefill_rate)


def _words(situation: Situation) -> str:
    return "has had this conversation" if situation.familiar else "new to this conversation"


SIGNAL = Signal("affinity", _cost, _words, rare=True)
