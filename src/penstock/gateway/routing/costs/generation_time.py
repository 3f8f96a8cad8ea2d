"""How long the answer takes from its first token to its last, which people mind less than waiting for the first."""

from penstock.gateway.fleet.throughput import ANSWER_TOKENS
from penstock.gateway.routing.costs.base import Signal, Situation

WEIGHT = 0.2
"""What a second of answering counts beside a second of waiting."""


def _cost(situation: Situation) -> float:
    rates, most = situation.rates, situation.most
    return WEIGHT * (
        rates.answer_seconds if most is None or most > ANSWER_TOKENS else rates.answer_seconds * most / ANSWER_TOKENS
    )


def _words(situation: Situation) -> str:
    return f"{situation.rates.decode_rate:.0f} tokens a second"


SIGNAL = Signal("answering", _cost, _words)
