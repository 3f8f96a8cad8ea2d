"""What an answered call teaches of its model on its server: how long loading, reading and answering took. Pure."""

from penstock.domain.fleet import Deployment
from penstock.domain.response import Usage
from penstock.gateway.fleet.catalog import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput

MIN_LOAD_SECONDS = 0.1
"""Seconds below which a model was not loaded, whatever was believed."""


def learn_throughput(
    live: ServerLoad,
    deployment: Deployment,
    usage: Usage,
    *,
    held: bool,
    ahead: int,
    first: float,
    total: float,
    most: int | None = None,
) -> None:
    """Learn from a call that was answered at the first try.

    `held`: the model was in memory; `ahead`: calls that ran on the server when it was sent; `first` and `total` are
    seconds from then to the first and the last byte, `first` 0 when it was not streamed. What the engine itself says
    of its times counts more than what was measured from outside.
    """
    rates = live.throughputs.get(deployment.model.name)
    if rates is None:
        return
    queued = ahead >= deployment.slots
    reading = rates.estimate_first_token(usage.prompt_tokens)
    if not held:
        _learn_load(
            rates, usage, (first - reading if first else total - reading - rates.estimate_generation(most)), queued
        )
    elif usage.prompt_seconds:
        rates.observe_prefill(usage.prompt_tokens, usage.prompt_seconds)
    elif first and not queued:
        rates.observe_prefill(max(0, usage.prompt_tokens - usage.cached_tokens), first)
    if usage.completion_seconds:
        rates.observe_answer(usage.completion_tokens, usage.completion_seconds)
    elif first:
        rates.observe_answer(usage.completion_tokens, total - first)
    elif held and not queued:
        rates.observe_answer(usage.completion_tokens, max(1e-3, total - reading))


def _learn_load(rates: ModelThroughput, usage: Usage, outside: float, queued: bool) -> None:
    if usage.load_seconds > MIN_LOAD_SECONDS:
        rates.observe_load(usage.load_seconds)
    elif outside > MIN_LOAD_SECONDS and not queued and not usage.total_seconds:
        rates.observe_load(outside)
