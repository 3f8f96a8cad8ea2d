"""The composition root: the only module that knows everyone. Builds a gateway from settings and runs it."""

import asyncio
import gc
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import __version__, dialects, engines
from penstock.api.dependencies import ApiDependencies, ApiSettings, RoutingInspection
from penstock.api.error_responses import ErrorResponses
from penstock.config.load import find_files_to_watch, load_settings
from penstock.config.reload import Reloader
from penstock.config.settings import ServerSettings, Settings
from penstock.control.discovery.dns_sd import Announcement
from penstock.control.discovery.lan_search import LanSearch, LanSearchSettings
from penstock.control.discovery.mdns import Mdns
from penstock.control.discovery.name_resolution import MdnsResolver
from penstock.control.discovery.watcher import Watcher
from penstock.domain.fleet import Priority, Server, ServerStatus
from penstock.domain.request import Defaults
from penstock.gateway import observers
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.pipeline import Pipeline
from penstock.gateway.routing import costs
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.model_profile import Preferences
from penstock.gateway.routing.router import Policy, Router
from penstock.gateway.upstream.attempt import Attempts, Timeouts
from penstock.gateway.upstream.failover import Failover
from penstock.gateway.upstream.transport.fetcher import Fetcher
from penstock.gateway.upstream.transport.pool import PoolLimits, Pools
from penstock.log_format import configure_logging as configure_logs
from penstock.serving import routes
from penstock.serving.context import ServingContext
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol
from penstock.serving.server import App, ListenOptions, Receive, Scope, Send, apply_origin_policy, bind_socket
from penstock.serving.server import Server as HttpServer
from penstock.sim import SimOptions, Simulator, demo_servers
from penstock.storage.data_dir import DataDirInUseError, claim_data_dir

log = logging.getLogger("penstock")

NOT_YET = ("queue.", "auth.", "notifications.", "telemetry.", "storage.database_url", "storage.redis_url")
"""Settings that are checked and have no effect in this version."""

DEMO_SERVER_NAMES = ("remote", "localhost")


class Gateway:
    """One gateway: its parts, and how they hang together. Made inside a running event loop.

    `port` is the one it listens on, where that is not the one of the settings.
    """

    def __init__(self, settings: Settings, port: int | None = None) -> None:
        self.settings = settings
        self._port = port
        self.started_at = time.monotonic()
        self.engines = engines.load()
        self.dialects = dialects.load()
        on_demand = frozenset(kind for kind, engine in self.engines.items() if engine.loads_on_demand)
        self.catalog = Catalog(settings.aliases, on_demand)
        self.meter = Meter()
        self.pools = Pools(
            PoolLimits(
                connect_timeout=settings.server.timeouts.connect, max_connections=settings.server.max_connections
            )
        )
        self.fetch = Fetcher(self.pools, self.engines, time.monotonic)
        self.simulators: list[Simulator] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.mdns = Mdns()
        names = MdnsResolver(self.mdns)
        self.watcher = Watcher(
            servers(settings),
            self.engines,
            self.catalog,
            self.fetch,
            on_real_server=self._on_real_server,
            resolver=names,
        )
        self.mdns.on_address_changed = self.watcher.report_moved_host
        self.network = LanSearch(self.watcher, self.mdns, names)
        operations = {kind: engine.operations for kind, engine in self.engines.items()}
        self.router = Router(policy(settings), costs.load_costs(), operations)
        self.attempts = Attempts(self.pools, self.engines, self._timeouts, __version__, self.meter)
        self.failover = Failover(
            self.catalog,
            self.attempts,
            defaults(settings),
            self.watcher.report_failed_call,
            time.monotonic,
            time.time,
            self.fetch,
        )
        self.decision_log = observers.DecisionLog()
        self.pipeline = Pipeline(
            catalog=self.catalog,
            router=self.router,
            failover=self.failover,
            observers=(
                observers.MetricsRecorder(self.meter),
                self.decision_log,
                observers.ThroughputLearner(self.catalog, self.watcher.report_failed_call),
                observers.SessionAffinity(self.router.ranker.note),
                observers.AccessLog(),
            ),
            classifier=Classifier(settings.routing.under_cost),
            clock=time.monotonic,
            probe_servers=self.watcher.probe_again,
        )
        self._limits = timeouts(settings)

    def _timeouts(self, server: str) -> Timeouts:
        return self._limits.get(server) or Timeouts()

    async def start(self) -> None:
        """Look at every server; with nothing configured and nothing found, start the simulated pair."""
        self.watcher.start()
        await self.watcher.wait_for_first_probes()
        nothing = not any(status.is_up for status in self.catalog.fleet.statuses)
        if self.settings.demo or (nothing and not self.settings.anything_configured):
            await self._simulate()
        self.network.apply(search(self.settings, self._port))

    async def stop(self) -> None:
        """Leave nothing behind."""
        await asyncio.gather(self.network.stop(), self.mdns.stop(), self.watcher.stop())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pools.close()
        for simulator in self.simulators:
            await simulator.stop()

    def apply(self, settings: Settings) -> None:
        """Take new settings without dropping a stream."""
        self.settings = settings
        self._limits = timeouts(settings)
        self.catalog.aliases = settings.aliases
        self.router.policy = policy(settings)
        self.router.clear_cache()
        self.pipeline.classifier = Classifier(settings.routing.under_cost)
        self.failover.defaults = defaults(settings)
        self.failover.forget()
        self.watcher.set_servers(servers(settings))
        self.network.apply(search(settings, self._port))
        wanted = {url for server in servers(settings) for url in server.urls}
        wanted |= {status.url for status in self.catalog.fleet.statuses}
        self.pools.retain(wanted.__contains__)

    def drain(self) -> None:
        """No new work from now on; what runs comes to its end."""
        self.pipeline.draining = True

    def context(self, origin_policy: OriginPolicy) -> ApiDependencies:
        """What the console may see."""
        return ApiDependencies(
            version=__version__,
            catalog=self.catalog,
            meter=self.meter,
            watcher=self.watcher,
            engines=self.engines,
            dialects=self.dialects,
            fetch=self.fetch,
            routing=RoutingInspection(
                self.router,
                lambda: self.pipeline.classifier,
                lambda: self.decision_log.records,
                lambda: self.decision_log.calls_by_level,
                self.failover.breakers.list_states,
                lambda: (self.failover.budget.taken, self.failover.budget.denied),
            ),
            settings=lambda: ApiSettings(self.settings.llm.mode),
            origin_allowed=origin_policy.is_origin_allowed,
            draining=lambda: self.pipeline.draining,
            clock=time.monotonic,
            wall=time.time,
            started_at=self.started_at,
        )

    async def _simulate(self) -> None:
        pair = []
        for name, options in zip(DEMO_SERVER_NAMES, demo_servers(), strict=True):
            simulator = Simulator(options)
            await simulator.start()
            self.simulators.append(simulator)
            pair.append(_simulated(name, simulator, options))
        log.warning("No model server was found: two simulated ones answer; every answer begins with [simulated]")
        real = [] if self.settings.demo else [s for s in servers(self.settings) if s.name not in DEMO_SERVER_NAMES]
        self.watcher.set_servers([*pair, *real])
        await self.watcher.wait_for_first_probes()

    def _on_real_server(self, status: ServerStatus) -> None:
        """The first real server takes over: the simulated ones end when what they are saying has ended."""
        log.warning("A real server was found: %s (%s); the simulated ones are gone", status.server.name, status.url)
        self._spawn(self._retire())

    async def _retire(self) -> None:
        simulators, self.simulators = self.simulators, []
        while any(simulator.running or simulator.waiting for simulator in simulators):  # noqa: ASYNC110 (its own loop)
            await asyncio.sleep(0.2)
        for simulator in simulators:
            await simulator.stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _simulated(name: str, simulator: Simulator, options: SimOptions) -> Server:
    priority = Priority.PRIMARY if name == DEMO_SERVER_NAMES[0] else Priority.SECONDARY
    return Server(name, options.kind, (simulator.url,), priority, options.slots, is_simulated=True)


def servers(settings: Settings) -> tuple[Server, ...]:
    """The model servers that settings name."""
    return tuple(_server(one, settings) for one in settings.servers)


def search(settings: Settings, port: int | None = None) -> LanSearchSettings:
    """What settings say of finding servers and of being found; `port` is the one listened on, where it is known."""
    host, port = settings.server.host, port or settings.server.port
    announcement = None
    if settings.server.announce and port:
        here = () if host in ("0.0.0.0", "::", "") else (host,)
        told = {"version": __version__, "path": "/v1"}
        announcement = Announcement("_penstock._tcp", f"Penstock on {socket.gethostname()}"[:63], port, here, told)
    return LanSearchSettings(servers(settings), settings.auto_discover, settings.discover_subnets, announcement, port)


def _server(one: ServerSettings, settings: Settings) -> Server:
    return Server(
        name=one.name,
        kind=one.kind,
        urls=one.urls,
        priority=Priority[one.priority],
        max_concurrent=one.max_concurrent,
        api_key=one.api_key or "",
        credentials=one.credentials or "",
        verify_tls=one.verify_tls,
        is_configured=one.configured,
        models=one.models,
        setting=_setting(one, settings),
    )


def _setting(one: ServerSettings, settings: Settings) -> str:
    """Where a server's address is set: the variable, or the key and its place in the file."""
    authority = one.urls[0].partition("://")[2]
    for key, said in settings.effective_values.items():
        if key.startswith("llm.providers.") and "url" in key.rpartition(".")[2] and authority in said.value:
            kind, _, place = said.source.partition(" ")
            return place if kind in ("environment", ".env") else f"{key} ({place})" if place else key
    return ""


def policy(settings: Settings) -> Policy:
    """What settings say of routing."""
    mismatch = ""
    if settings.vllm.model and settings.llm.mode == "vllm" and settings.vllm.model != settings.llm.model:
        mismatch = (
            f"LLM_MODEL ({settings.llm.model}) and VLLM_MODEL ({settings.vllm.model}) differ: "
            "vLLM serves the second, so set both to the same name."
        )
    return Policy(
        settings.llm.mode,
        settings.llm.model,
        mismatch,
        settings.chat.chain,
        settings.distributed,
        Preferences.from_names(settings.routing.levels, settings.routing.task_types),
    )


def defaults(settings: Settings) -> Defaults:
    """What service calls leave out."""
    llm = settings.llm
    again = settings.routing
    return Defaults(
        llm.model,
        llm.max_tokens,
        llm.temperature,
        llm.stream,
        settings.distributed,
        again.resume,
        again.hedge_after,
    )


def timeouts(settings: Settings) -> dict[str, Timeouts]:
    """Time-outs by server name."""
    found = {}
    for one in settings.servers:
        first = one.timeouts.first_byte or math.inf
        found[one.name] = Timeouts(first, one.timeouts.idle or first, one.timeouts.total or math.inf)
    return found


def _not_yet(settings: Settings) -> list[str]:
    """A word for each setting that somebody made and that does nothing so far."""
    made = [key for key, said in settings.effective_values.items() if said.source != "default"]
    idle = sorted(key for key in made if key.startswith(NOT_YET))
    return [f"{key} is understood, but has no effect in version {__version__}" for key in idle]


@dataclass(frozen=True, slots=True)
class Reloading:
    """How settings are read again, and the files whose change is the reason to."""

    load: Callable[[], Settings]
    files: Sequence[Path]


def serve(settings: Settings, *, config_path: Path | None, overrides: Mapping[str, object]) -> int:
    """Run a gateway until it is told to stop; the process's exit code."""
    configure_logs(settings.server.log_format, settings.server.log_level, settings.server.log_file)
    for warning in (*settings.warnings, *_not_yet(settings)):
        log.warning("%s", warning)
    host, port = settings.server.host, settings.server.port
    try:
        bound = bind_socket(host, port)
    except OSError as error:
        sys.stderr.write(f"penstock: cannot listen on {host}:{port}: {error.strerror}; choose another --port\n")
        return 1
    try:
        with claim_data_dir(settings.data_dir), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            reloading = Reloading(
                lambda: load_settings(config_path, overrides, demo=settings.demo),
                find_files_to_watch(config_path, environ=os.environ),
            )
            return runner.run(_serve(settings, bound, reloading))
    except DataDirInUseError as error:
        sys.stderr.write(f"penstock: {error}\n")
        return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # lazy: not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings, bound: socket.socket, reloading: Reloading) -> int:
    gateway = Gateway(settings, bound.getsockname()[1])
    origin_policy = OriginPolicy(frozenset(settings.server.allowed_hosts), frozenset(settings.server.cors_origins))
    table = routes.build_route_table(gateway.dialects)
    protocol = GatewayProtocol.for_context(
        ServingContext(gateway.pipeline, table, origin_policy, settings.server.max_body)
    )
    failures = ErrorResponses(gateway.dialects)
    console = asyncio.get_running_loop().create_task(asyncio.to_thread(_console, gateway, origin_policy))
    app = apply_origin_policy(_once_there(console), origin_policy, lambda path, error: failures.render(path, error, ""))
    listening = ListenOptions(keep_alive=settings.server.keep_alive, drain=settings.server.drain_seconds)
    server = HttpServer(app, protocol, listening, gateway.drain)
    reloader = Reloader(reloading.load, settings, gateway.apply, reloading.files)
    watching = asyncio.get_running_loop().create_task(reloader.run())
    try:
        await gateway.start()
        console.add_done_callback(_settle_memory)
        await server.serve([bound])
    finally:
        watching.cancel()
        await gateway.stop()
    return 0


def _console(gateway: Gateway, origin_policy: OriginPolicy) -> App:
    """The console, and the classifier's weights read. Importing FastAPI takes longer than all else at the start: calls
    need not wait for it."""
    from penstock.api import app as console  # noqa: PLC0415  # lazy: half a second of imports, in a thread beside the first calls

    gateway.pipeline.classifier.load_weights()
    return console.build_app(gateway.context(origin_policy))


def _once_there(console: "asyncio.Task[App]") -> App:
    """The console, which requests wait for as long as it is being built."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await asyncio.shield(console))(scope, receive, send)

    return app


def _settle_memory(_: object) -> None:
    """What is imported and built by now stays: the collector need not walk it again and again.

    Calls leave no cycles behind, so it need not look as often as it does by default (after 700 new objects) either.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
