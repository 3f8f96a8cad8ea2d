"""Everything prepared for calls to a deployment before they come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.domain.fleet import Deployment, Fleet
from penstock.engines.base import Engine
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.metrics.meter import Meter, SeriesByWire
from penstock.gateway.upstream.resilience.breaker import BreakerPair
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.transport.pool import Pool, Pools


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    `first_byte` is for the first piece of a response's body, `idle` between two pieces of it, `total` for a complete
    response that is not streamed.
    """

    first_byte: float = 240.0
    idle: float = 240.0
    total: float = 240.0


@dataclass(slots=True, eq=False)
class Target:
    """A deployment with all that a call to it needs; prepared once, used until the fleet or the settings change.

    `request_heads` are heads of requests by path, up to where a call's own header lines begin. `provenance_headers` are
    header lines of responses by reason, fallback and complexity.
    """

    deployment: Deployment
    engine: Engine
    pool: Pool
    timeouts: Timeouts
    load: ServerLoad
    breakers: BreakerPair
    series: SeriesByWire
    request_heads: dict[str, bytes] = field(default_factory=dict)
    provenance_headers: dict[tuple[str, bool, str], bytes] = field(default_factory=dict)


class TargetFactory:
    """Creates targets. `timeouts_of` returns the timeouts of a server by its name."""

    def __init__(
        self, pools: Pools, engines: Mapping[str, Engine], timeouts_of: Callable[[str], Timeouts], meter: Meter
    ) -> None:
        self._pools = pools
        self._engines = engines
        self._timeouts_of = timeouts_of
        self._meter = meter

    def create(self, deployment: Deployment, load: ServerLoad, breakers: BreakerPair) -> Target:
        """Create the target for a deployment."""
        server = deployment.server
        return Target(
            deployment=deployment,
            engine=self._engines[server.kind],
            pool=self._pools.get(deployment.url, server.verify_tls),
            timeouts=self._timeouts_of(server.name),
            load=load,
            breakers=breakers,
            series=self._meter.series_of(deployment.model.name, server.name),
        )


class Targets:
    """Targets of the current fleet. `clock` returns monotonic seconds."""

    def __init__(
        self, factory: TargetFactory, catalog: Catalog, breakers: BreakerRegistry, clock: Callable[[], float]
    ) -> None:
        self.breakers = breakers
        self._factory = factory
        self._catalog = catalog
        self._clock = clock
        self._fleet: Fleet | None = None
        self._targets: dict[tuple[str, str], Target] = {}

    def clear(self) -> None:
        """Prepare all targets again: settings have changed."""
        self._targets.clear()

    def get(self, deployment: Deployment) -> Target:
        """Return the target of a deployment."""
        fleet = self._catalog.fleet
        if fleet is not self._fleet:
            self._use_fleet(fleet)
        key = (deployment.server.name, deployment.model.name)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = self._factory.create(
                deployment, self._catalog.load_of(deployment.server.name), self.breakers.get(*key)
            )
        return target

    def _use_fleet(self, fleet: Fleet) -> None:
        """Drop the targets of an older fleet, and pass its health checks to the breakers."""
        self._fleet = fleet
        self._targets.clear()
        self.breakers.update_from_health_checks(fleet.statuses, self._clock())
        for name, load in self._catalog.loads.items():
            if load.traffic_share is not None and self.breakers.is_unrestricted(name, self._clock()):
                load.traffic_share = None
