"""The model that suits the task best; bigger than needed costs, so that big ones stay free for what needs them."""

from penstock.gateway.routing.costs.base import Signal, Situation

SECONDS = 20.0
"""A model of 12 billion for a greeting is a misfit of 0.1: passed over unless it can begin two seconds sooner."""


def _cost(situation: Situation) -> float:
    return SECONDS * situation.misfit


def _words(situation: Situation) -> str:
    return f"{situation.deployment.model.name} fits the task to {1 - situation.misfit:.0%}"


SIGNAL = Signal("fit", _cost, _words, fixed=True)
