"""Time from the first token to the last. It counts less than the time to the first token."""

from penstock.gateway.fleet.throughput import ANSWER_TOKENS
from penstock.gateway.routing.costs.base import Cost, CostContext

GENERATION_WEIGHT = 0.2
"""Weight of a second of generation relative to a second before the first token."""


def _estimate_seconds(context: CostContext) -> float:
    seconds, max_tokens = context.throughput.answer_seconds, context.max_tokens
    if max_tokens is None or max_tokens > ANSWER_TOKENS:
        return GENERATION_WEIGHT * seconds
    return GENERATION_WEIGHT * (seconds * max_tokens / ANSWER_TOKENS)


def _describe_cost(context: CostContext) -> str:
    return f"{context.throughput.decode_rate:.0f} tokens a second"


COST = Cost("answering", _estimate_seconds, _describe_cost)
