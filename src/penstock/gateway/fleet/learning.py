"""Learning of throughput from answered calls: times of loading, prefill and generation. No clock, no I/O."""

from dataclasses import dataclass

from penstock.domain.fleet import Deployment
from penstock.domain.response import Usage
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput

MIN_LOAD_SECONDS = 0.1
"""Shorter times are no load of a model: it was in memory, whatever was expected."""
MIN_GENERATION_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    """Times of a call that was answered at its first attempt.

    `model_was_loaded`: the model was in memory when the call was sent. `running_before` is the number of calls that ran
    on the server then. `first_byte_seconds` and `total_seconds` are measured from then on; the former is 0 if the
    answer was not streamed. `max_tokens` is the limit that the call set.
    """

    usage: Usage
    model_was_loaded: bool
    running_before: int
    first_byte_seconds: float
    total_seconds: float
    max_tokens: int | None = None


def learn_throughput(load: ServerLoad, deployment: Deployment, call: AnsweredCall) -> None:
    """Update the throughput of the deployment's model, and the guesses for the other models of the server.

    Times that the engine reports take precedence over those measured from outside.
    """
    throughput = load.throughputs.get(deployment.model.name)
    if throughput is None:
        return
    factor = load.speed_factor.factor
    usage, first_byte, total = call.usage, call.first_byte_seconds, call.total_seconds
    was_queued = call.running_before >= deployment.slots
    first_token = throughput.estimate_first_token(usage.prompt_tokens)
    if not call.model_was_loaded:
        rest = first_token if first_byte else first_token + throughput.estimate_generation(call.max_tokens)
        _learn_load(throughput, usage, (first_byte or total) - rest, was_queued)
    elif usage.prompt_seconds:
        throughput.observe_prefill(usage.prompt_tokens, usage.prompt_seconds)
    elif first_byte and not was_queued:
        throughput.observe_prefill(max(0, usage.prompt_tokens - usage.cached_tokens), first_byte)
    if usage.completion_seconds:
        throughput.observe_answer(usage.completion_tokens, usage.completion_seconds)
    elif first_byte:
        throughput.observe_answer(usage.completion_tokens, total - first_byte)
    elif call.model_was_loaded and not was_queued:
        throughput.observe_answer(usage.completion_tokens, max(MIN_GENERATION_SECONDS, total - first_token))
    if load.speed_factor.factor != factor:
        for other in load.throughputs.values():
            other.follow_speed_factor()


def _learn_load(throughput: ModelThroughput, usage: Usage, measured_seconds: float, was_queued: bool) -> None:
    if usage.load_seconds > MIN_LOAD_SECONDS:
        throughput.observe_load(usage.load_seconds)
    elif measured_seconds > MIN_LOAD_SECONDS and not was_queued and not usage.total_seconds:
        throughput.observe_load(measured_seconds)
