"""One gateway: its parts and their wiring, start, stop and reload."""

import asyncio
import logging
import time

from penstock import __version__, dialects, engines
from penstock.app.demo import DEMO_SERVER_NAMES, DemoServers
from penstock.app.from_settings import (
    build_classifier,
    build_defaults,
    build_policy,
    build_pool_limits,
    build_search,
    build_servers,
    build_timeouts,
)
from penstock.config.settings import Settings
from penstock.control.discovery.lan_search import LanSearch
from penstock.control.discovery.mdns import Mdns
from penstock.control.discovery.name_resolution import MdnsResolver
from penstock.control.discovery.watcher import Watcher
from penstock.domain.fleet import ServerStatus
from penstock.gateway import observers
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.pipeline import Pipeline
from penstock.gateway.routing import costs
from penstock.gateway.routing.model_profile import estimate_billions
from penstock.gateway.routing.router import Router
from penstock.gateway.upstream.assembly import create_failover
from penstock.gateway.upstream.targets import Timeouts
from penstock.gateway.upstream.transport.fetcher import Fetcher
from penstock.gateway.upstream.transport.pool import Pools

log = logging.getLogger("penstock")


class Gateway:
    """The parts of one gateway. Create it inside a running event loop.

    `port` is the port listened on, where it differs from the settings.
    """

    def __init__(self, settings: Settings, port: int | None = None) -> None:
        self.settings = settings
        self._port = port
        self.started_at = time.monotonic()
        self.engines = engines.load()
        self.dialects = dialects.load()
        on_demand = frozenset(kind for kind, engine in self.engines.items() if engine.loads_on_demand)
        self.catalog = Catalog(settings.aliases, on_demand, estimate_billions)
        self.meter = Meter()
        self.pools = Pools(build_pool_limits(settings))
        self.fetch = Fetcher(self.pools, self.engines, time.monotonic)
        self._demo_servers = DemoServers()
        self._retirement: asyncio.Task[None] | None = None
        self.mdns = Mdns()
        resolver = MdnsResolver(self.mdns)
        self.watcher = Watcher(
            build_servers(settings),
            self.engines,
            self.catalog,
            self.fetch,
            on_real_server=self._on_real_server,
            resolver=resolver,
        )
        self.mdns.on_address_changed = self.watcher.report_moved_host
        self.network = LanSearch(self.watcher, self.mdns, resolver)
        operations = {kind: engine.operations for kind, engine in self.engines.items()}
        self.router = Router(build_policy(settings), costs.load_costs(), operations)
        self._timeouts = build_timeouts(settings)
        self.failover = create_failover(
            catalog=self.catalog,
            pools=self.pools,
            engines=self.engines,
            meter=self.meter,
            defaults=build_defaults(settings),
            timeouts_of=self._find_timeouts,
            fetch=self.fetch,
            request_probe=self.watcher.request_probe,
            user_agent=f"penstock/{__version__}",
        )
        self.decision_log = observers.DecisionLog()
        self.pipeline = self._build_pipeline()

    def _build_pipeline(self) -> Pipeline:
        return Pipeline(
            catalog=self.catalog,
            router=self.router,
            failover=self.failover,
            observers=(
                observers.MetricsRecorder(self.meter),
                self.decision_log,
                observers.ThroughputLearner(self.catalog, self.watcher.request_probe),
                observers.SessionRecorder(self.router.session_affinity.remember),
                observers.AccessLog(),
                observers.FailureLog(time.monotonic),
            ),
            classifier=build_classifier(self.settings),
            clock=time.monotonic,
            probe_servers=self.watcher.probe_again,
        )

    def _find_timeouts(self, server: str) -> Timeouts:
        return self._timeouts.get(server) or Timeouts()

    async def start(self) -> None:
        """Probe every server; start the simulated pair when nothing is configured and no server is found."""
        self.watcher.start()
        await self.watcher.wait_for_first_probes()
        is_any_up = any(status.is_up for status in self.catalog.fleet.statuses)
        if self.settings.demo or not (is_any_up or self.settings.anything_configured):
            await self._start_demo_servers()
        self.network.apply(build_search(self.settings, self._port))

    async def stop(self) -> None:
        """Stop all parts; no task and no connection is left."""
        await asyncio.gather(self.network.stop(), self.mdns.stop(), self.watcher.stop())
        if self._retirement is not None:
            self._retirement.cancel()
            await asyncio.gather(self._retirement, return_exceptions=True)
        self.pools.close()
        await self._demo_servers.stop()

    def apply(self, settings: Settings) -> None:
        """Apply new settings without interrupting a stream."""
        self.settings = settings
        self._timeouts = build_timeouts(settings)
        self.catalog.aliases = settings.aliases
        self.router.policy = build_policy(settings)
        self.router.clear_cache()
        self.pipeline.classifier = build_classifier(settings)
        self.failover.defaults = build_defaults(settings)
        self.failover.forget()
        servers = build_servers(settings)
        self.watcher.set_servers(servers)
        self.network.apply(build_search(settings, self._port))
        used_urls = {url for server in servers for url in server.urls}
        used_urls |= {status.url for status in self.catalog.fleet.statuses}
        self.pools.retain(used_urls.__contains__)

    def drain(self) -> None:
        """Accept no more work; what runs continues to its end."""
        self.pipeline.draining = True

    async def _start_demo_servers(self) -> None:
        simulated = await self._demo_servers.start()
        log.warning(
            "No model server was found. Two simulated servers answer instead; every response begins with [simulated]."
        )
        # Their names are taken, and with `penstock demo` real servers are not used at all.
        real = [] if self.settings.demo else build_servers(self.settings)
        self.watcher.set_servers([*simulated, *(server for server in real if server.name not in DEMO_SERVER_NAMES)])
        await self.watcher.wait_for_first_probes()

    def _on_real_server(self, status: ServerStatus) -> None:
        """Retire the simulated servers: a real one has been found."""
        log.warning("A real server was found: %s (%s). It replaces the simulated ones.", status.server.name, status.url)
        self._retirement = asyncio.get_running_loop().create_task(self._demo_servers.retire())
