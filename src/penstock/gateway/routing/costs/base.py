"""Interface of a routing cost: one consideration, expressed as the seconds that it costs the caller."""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.domain.fleet import Deployment
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput


@dataclass(slots=True, eq=False)
class CostContext:
    """A deployment at one moment and what costs may read besides it.

    `is_loaded`: the model is in the server's memory. `prompt_tokens` are estimated, `max_tokens` is the limit of the
    answer. `misfit` is in [0, 1], 0 for a model that suits the task best. `has_session`: the server answered the last
    call of this conversation.

    Mutable for speed: the ranker makes one per decision and reuses it for all candidates.
    """

    now: float
    deployment: Deployment
    load: ServerLoad
    throughput: ModelThroughput
    is_loaded: bool = True
    prompt_tokens: int = 0
    max_tokens: int | None = None
    misfit: float = 0.0
    has_session: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost. `estimate` returns seconds, without side effects; `describe` explains them to people.

    `is_fixed`: it depends on the deployment and the misfit only, and is computed once per fleet snapshot. `is_rare`: it
    is not 0 only for a server that failed recently or that has the caller's session. `is_wait`: its seconds pass
    before the first token; those of the other costs are a preference.
    """

    name: str
    estimate: Callable[[CostContext], float]
    describe: Callable[[CostContext], str]
    is_fixed: bool = False
    is_rare: bool = False
    is_wait: bool = False
