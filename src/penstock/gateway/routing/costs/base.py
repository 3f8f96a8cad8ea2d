"""What a routing signal is: one consideration, as the seconds that it costs the caller."""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.domain.fleet import Deployment
from penstock.gateway.fleet.catalog import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput


@dataclass(slots=True, eq=False)
class Situation:
    """A deployment at one moment, and what signals may look at beside it. One is used for all candidates in turn.

    `prompt` is the estimated tokens of the call's prompt, `most` the tokens of its answer at most; `misfit` is in
    [0, 1], how far the model is from the best for the task; `familiar`: the server has lately had this conversation.
    """

    now: float
    deployment: Deployment
    live: ServerLoad
    rates: ModelThroughput
    resident: bool = True
    prompt: int = 0
    most: int | None = None
    misfit: float = 0.0
    familiar: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """`cost` is pure, in seconds; `words` says it to people.

    `fixed`: it looks only at the deployment and the misfit, so that it is asked once for each fleet. `rare`: it has
    something to say only of a server in trouble or a familiar one. `waits`: its seconds are really waited for before
    the first token; the others' are what something is worth.
    """

    name: str
    cost: Callable[[Situation], float]
    words: Callable[[Situation], str]
    fixed: bool = False
    rare: bool = False
    waits: bool = False
