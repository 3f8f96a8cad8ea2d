"""Bonus for the server that answered this conversation last: it has the beginning of the prompt in its cache."""

from penstock.gateway.routing.costs.base import Cost, CostContext

MIN_SECONDS_SAVED = 0.25
MAX_SECONDS_SAVED = 5.0
"""Limits of the bonus. It is too small to make a call wait in a queue."""


def _estimate_seconds(context: CostContext) -> float:
    if not (context.has_session and context.is_loaded):
        return 0.0
    return -min(MAX_SECONDS_SAVED, MIN_SECONDS_SAVED + 0.8 * context.prompt_tokens / context.throughput.prefill_rate)


def _describe_cost(context: CostContext) -> str:
    return "answered this conversation before" if context.has_session else "new to this conversation"


COST = Cost("affinity", _estimate_seconds, _describe_cost, is_rare=True)
