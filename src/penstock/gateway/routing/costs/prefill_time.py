"""Time to the first token on a loaded model with a free slot: the model reads the prompt."""

from penstock.gateway.routing.costs.base import Cost, CostContext


def _estimate_seconds(context: CostContext) -> float:
    throughput = context.throughput
    return throughput.first_token_overhead + throughput.seconds_per_prompt_token * context.prompt_tokens


def _describe_cost(context: CostContext) -> str:
    return f"about {context.prompt_tokens} tokens of prompt at {context.throughput.prefill_rate:.0f} a second"


COST = Cost("reading", _estimate_seconds, _describe_cost, is_wait=True)
