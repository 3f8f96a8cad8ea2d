"""How long a loaded model with a free slot takes to the first token: it reads the prompt."""

from penstock.gateway.routing.costs.base import Signal, Situation


def _cost(situation: Situation) -> float:
    rates = situation.rates
    return rates.first_token_overhead + rates.seconds_per_prompt_token * situation.prompt


def _words(situation: Situation) -> str:
    rates = situation.rates
    return f"about {situation.prompt} tokens of prompt at {rates.prefill_rate:.0f} a second"


SIGNAL = Signal("reading", _cost, _words, waits=True)
