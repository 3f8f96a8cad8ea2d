"""What the console is given by the one who builds it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.api.model_listing import ListedModel, find_model, list_models
from penstock.dialects.base import Dialect
from penstock.engines.base import Engine, FetchFunction
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.observers.decision_log import DecisionRecord
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.router import Router

"""Fetches something: server, base URL, what, time-out in seconds. Raises PenstockError."""


class Watch(Protocol):
    """The part of the watcher that the console needs."""

    @property
    def has_probed_all(self) -> bool:
        """Whether every server has been looked at."""
        ...

    def probe_again(self) -> Awaitable[None] | None:
        """Begin a look at the servers for what may be new there; None: there is no need."""
        ...


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings that show: `mode` is LLM_MODE. `full_health` tells strangers more than statuses."""

    mode: str = "ollama"
    full_health: bool = True


@dataclass(frozen=True, slots=True)
class RoutingInspection:
    """What decides where calls go, and what it has decided of late, oldest first. A reload changes the classifier.

    `levels` counts the calls judged by level; `breakers` tells the state of each by server and model ("" for the server
    itself); `retries` how many there were and how many the budget refused.
    """

    router: Router
    classifier: Callable[[], Classifier]
    decisions: Callable[[], Sequence[DecisionRecord]]
    levels: Callable[[], Mapping[str, int]] = dict
    breakers: Callable[[], Mapping[tuple[str, str], str]] = dict
    retries: Callable[[], tuple[int, int]] = lambda: (0, 0)


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """The parts of one gateway. Times are seconds; `clock` is monotonic, as `started_at` is, and `wall` the epoch's.

    `settings` is asked at each request, since a reload may change them. `origin_allowed(origin, host)` says whether a
    page of that origin may read answers. `draining` is True from the moment when no new work is taken.
    """

    version: str
    catalog: Catalog
    meter: Meter
    watcher: Watch
    engines: Mapping[str, Engine]
    dialects: tuple[Dialect, ...]
    fetch: FetchFunction
    routing: RoutingInspection
    settings: Callable[[], ApiSettings]
    origin_allowed: Callable[[bytes, bytes], bool]
    draining: Callable[[], bool]
    clock: Callable[[], float]
    wall: Callable[[], float]
    started_at: float

    async def find(self, name: str) -> ListedModel | None:
        """What goes by this name, after another look at the servers if it is unknown: it may be new."""
        found = find_model(list_models(self.catalog.fleet, self.engines), name, self.catalog.aliases)
        if found is None and (looks := self.watcher.probe_again()):
            await looks
            found = find_model(list_models(self.catalog.fleet, self.engines), name, self.catalog.aliases)
        return found

    def running(self) -> dict[str, int]:
        """Calls in work by the name of their server."""
        return {name: live.running for name, live in self.catalog.loads.items()}
