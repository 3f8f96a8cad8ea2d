"""Parts of a gateway that the API uses; the composition root provides them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from penstock.dialects.base import Dialect
from penstock.engines.base import Engine, FetchFunction
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.observers.decision_log import DecisionRecord
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.router import Router
from penstock.gateway.upstream.transport.upload import UploadFunction


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings that the API shows or obeys: `mode` is LLM_MODE.

    `full_health`: unauthenticated callers see details of the health, not only statuses. `lists_auto`: lists of models
    have `auto`, by which the gateway chooses one.
    """

    mode: str = "ollama"
    full_health: bool = True
    lists_auto: bool = False


class RetryCounts(NamedTuple):
    """Retries that the retry budget has allowed and denied."""

    allowed: int
    denied: int


class GatewayStatus(Protocol):
    """State of a running gateway. It is read at each request, because it changes and a reload replaces parts."""

    @property
    def is_draining(self) -> bool:
        """True once no new work is accepted."""
        ...

    @property
    def has_probed_servers(self) -> bool:
        """True once every server has been probed."""
        ...

    @property
    def api_settings(self) -> ApiSettings:
        """The settings in force."""
        ...

    @property
    def classifier(self) -> Classifier:
        """The classifier in use; a reload replaces it."""
        ...

    def probe_for_new_models(self) -> Awaitable[None] | None:
        """Start to probe the servers for new models; None when that is not needed."""
        ...

    async def refresh_models(self) -> None:
        """Probe the servers unless that was done a moment ago, so that a list of models is true."""
        ...

    def list_decisions(self) -> Sequence[DecisionRecord]:
        """Return the last routing decisions, oldest first."""
        ...

    def count_levels(self) -> Mapping[str, int]:
        """Return the number of classified requests by level."""
        ...

    def list_breaker_states(self) -> Mapping[tuple[str, str], str]:
        """Return the state of each circuit breaker by server and model ("": the server itself)."""
        ...

    def count_retries(self) -> RetryCounts:
        """Return the numbers of retries that the budget has allowed and denied."""
        ...


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """The parts of one gateway that the API uses. Times are seconds.

    `clock` and `started_at` are monotonic, `wall` counts from the epoch. `is_origin_allowed(origin, host)` returns
    True when a web page of that origin may read responses.
    """

    version: str
    catalog: Catalog
    meter: Meter
    router: Router
    engines: Mapping[str, Engine]
    dialects: tuple[Dialect, ...]
    fetch: FetchFunction
    upload: UploadFunction
    gateway: GatewayStatus
    is_origin_allowed: Callable[[bytes, bytes], bool]
    clock: Callable[[], float]
    wall: Callable[[], float]
    started_at: float

    def count_running(self) -> dict[str, int]:
        """Return the number of running requests by server name."""
        return {name: load.running for name, load in self.catalog.loads.items()}
