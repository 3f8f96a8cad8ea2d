"""Keeps the catalog up to date: probes all servers at the start, then each of them in the background."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from penstock.control.discovery.discovery_log import DiscoveryLog
from penstock.control.discovery.health import ProbeResult, evaluate_probe, is_excusable_timeout
from penstock.control.discovery.name_resolution import SystemResolver, UrlResolver, get_host
from penstock.control.discovery.probe import Prober
from penstock.control.discovery.schedule import MIN_PROBE_GAP, ProbeSchedule
from penstock.control.discovery.watched_server import WatchedServer, is_same_endpoint
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Server, ServerStatus, State
from penstock.engines.base import Engine, FetchFunction
from penstock.gateway.fleet.catalog import Catalog

logger = logging.getLogger(__name__)

REFRESH_TIMEOUT = 1.0
"""Seconds that a list of models waits for the servers."""


class Watcher:
    """Probes the servers and is the only publisher of the catalog.

    `start` begins, `wait_for_first_probes` waits until every server has been probed, `stop` leaves no task behind.
    Each server has at most one probe in flight, every `interval` seconds ± 10 %, sooner while it fails or after
    `request_probe`.
    Servers with `is_configured=False` are probed without log lines and join when they answer: every `search_interval`
    seconds while the fleet is simulated or empty. The first real server with a model removes simulated ones for good;
    then `on_real_server` is called with its status.
    A drained server is still probed and has the state DRAINING; its running calls complete.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        engines: Mapping[str, Engine],
        catalog: Catalog,
        fetch: FetchFunction,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 30.0,
        timeout: float = 2.0,
        first_retry: float = 1.0,
        search_interval: float = 5.0,
        on_real_server: Callable[[ServerStatus], None] | None = None,
        random: Callable[[], float] = random.random,
        resolver: UrlResolver | None = None,
    ) -> None:
        self._engines = engines
        self._catalog = catalog
        self._prober = Prober(fetch, clock, timeout, resolver or SystemResolver())
        self._timeout = timeout
        self._clock = clock
        self._random = random
        self._interval = interval
        self._first_retry = first_retry
        self._search_interval = search_interval
        self.on_real_server = on_real_server
        self._log = DiscoveryLog()
        self._running = False
        self._real_server_found = False
        self._watched: dict[str, WatchedServer] = {}
        self._configured_servers: tuple[Server, ...] = ()
        self._found_servers: tuple[Server, ...] = ()
        self._drained: set[str] = set()
        self._cancelled_tasks: set[asyncio.Task[None]] = set()
        self.set_servers(servers)

    @property
    def has_probed_all(self) -> bool:
        """True if every server has been probed since it was added."""
        return self._running and all(watched.probed.is_set() for watched in self._watched.values())

    def start(self) -> None:
        """Begin probing; needs a running event loop."""
        self._running = True
        configured = [w.server.kind for w in self._watched.values() if w.server.is_configured]
        kinds = dict.fromkeys(configured or [w.server.kind for w in self._watched.values()])
        self._log.log_start(
            self._engines[kind].title.removesuffix(" server") for kind in kinds if kind in self._engines
        )
        for watched in self._watched.values():
            self._start_task(watched)
        if not self._watched:
            self._write_summary()

    async def wait_for_first_probes(self) -> None:
        """Wait until every server that is watched now has been probed and published."""
        while waiting := [w for w in self._watched.values() if not w.probed.is_set()]:
            await asyncio.gather(*(watched.probed.wait() for watched in waiting))

    async def stop(self) -> None:
        """Cancel all probes and wait for them."""
        self._running = False
        for watched in self._watched.values():
            self._cancel_task(watched)
        while self._cancelled_tasks:
            await asyncio.gather(*self._cancelled_tasks, return_exceptions=True)

    def request_probe(self, name: str) -> None:
        """Probe a server now, but not more than once a second, because a call to it has failed."""
        if watched := self._watched.get(name):
            watched.request_probe(self._clock())

    def report_moved_host(self, host: str) -> None:
        """Probe the servers with this host name, because it has a new address."""
        for watched in self._watched.values():
            if any(get_host(url) == host for url in watched.server.urls):
                watched.request_probe(self._clock())

    def probe_again(self) -> "asyncio.Task[None] | None":
        """Probe the servers that are up, before a client is told that a model does not exist: it may be new.

        The returned task ends with the last probe. Return None if no probe is needed: those that began within the last
        second count.
        """
        now = self._clock()
        due = [w for w in self._watched.values() if w.status.is_up and w.schedule.is_outdated(now)]
        for watched in due:
            watched.request_probe(now)
        if not due:
            return None
        wait = self._wait_for_probes(now, due, self._timeout + MIN_PROBE_GAP)
        return asyncio.get_running_loop().create_task(wait)

    async def refresh(self) -> None:
        """Probe the servers that are up, so that a list of their models is true now.

        A probe of the last second counts, unless a call came after it: calls load, unload, make and delete models.
        A server that does not respond within `REFRESH_TIMEOUT` keeps what was last seen of it.
        """
        now, loads = self._clock(), self._catalog.loads
        up = [watched for watched in self._watched.values() if watched.status.is_up]
        due = [watched for watched in up if watched.may_have_changed(loads.get(watched.server.name), now)]
        for watched in due:
            watched.request_probe(now, is_urgent=True)
        await self._wait_for_probes(now, due, REFRESH_TIMEOUT)

    async def _wait_for_probes(self, requested_at: float, due: list[WatchedServer], timeout: float) -> None:  # noqa: ASYNC109
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for watched in due:
                    while watched.schedule.is_probing or watched.schedule.started_at < requested_at:
                        await watched.probe_done.wait()

    # The set of servers

    def set_servers(self, servers: Iterable[Server]) -> None:
        """Watch these servers from now on, in this order; those that are unchanged are not disturbed.

        One whose addresses, kind and credentials stay keeps its status; all others are probed anew. Simulated ones are
        left out once a real server was found.
        """
        self._configured_servers = tuple(servers)
        self._reconcile()

    def set_found_servers(self, servers: Iterable[Server]) -> None:
        """Watch these servers, too: they were found on the network, and no setting names them."""
        found = tuple(servers)
        if found != self._found_servers:
            self._found_servers = found
            self._reconcile()

    def list_reachable_urls(self) -> frozenset[str]:
        """Return the main addresses of the servers that are up."""
        return frozenset(watched.server.url for watched in self._watched.values() if watched.status.is_up)

    def drain_server(self, name: str) -> bool:
        """Give a server no new calls; running ones complete. Return False if there is no such server."""
        return self._set_drained(name, True)

    def enable_server(self, name: str) -> bool:
        """Give a drained server calls again. Return False if there is no such server."""
        return self._set_drained(name, False)

    def _set_drained(self, name: str, drained: bool) -> bool:
        if name not in self._watched:
            return False
        if drained != (name in self._drained):
            self._drained ^= {name}
            if drained:
                logger.info("Server %s is drained: it gets no new calls, and running calls complete.", name)
            else:
                logger.info("Server %s gets new calls again.", name)
            self._publish()
        return True

    def _reconcile(self) -> None:
        """Watch exactly the servers that are set."""
        previous, self._watched = self._watched, {}
        for server in (*self._configured_servers, *self._found_servers):
            if (server.is_simulated and self._real_server_found) or server.name in self._watched:
                continue
            watched = previous.pop(server.name, None)
            self._watched[server.name] = self._update(watched, server) if watched else self._add(server)
        for removed in previous.values():
            self._remove(removed)
        self._drained &= set(self._watched)
        self._publish()

    def _add(self, server: Server) -> WatchedServer:
        schedule = ProbeSchedule(self._interval, self._first_retry)
        watched = WatchedServer(server, ServerStatus(server), schedule, joined=server.is_configured)
        if self._running:
            self._start_task(watched)
        return watched

    def _update(self, watched: WatchedServer, server: Server) -> WatchedServer:
        """Return the record for a server whose settings may have changed."""
        if watched.server == server:
            return watched
        if not is_same_endpoint(watched.server, server):
            self._remove(watched)
            return self._add(server)
        watched.server = server
        watched.status = replace(watched.status, server=server)
        watched.joined = watched.joined or server.is_configured
        watched.schedule.next_at = self._clock()
        watched.wake.set()
        return watched

    def _remove(self, watched: WatchedServer) -> None:
        watched.probed.set()
        self._cancel_task(watched)

    # Probing

    def _start_task(self, watched: WatchedServer) -> None:
        watched.task = asyncio.create_task(self._probe_repeatedly(watched), name=f"watch {watched.server.name}")

    def _cancel_task(self, watched: WatchedServer) -> None:
        if task := watched.task:
            watched.task = None
            self._cancelled_tasks.add(task)
            task.add_done_callback(self._cancelled_tasks.discard)
            task.cancel()

    async def _probe_repeatedly(self, watched: WatchedServer) -> None:
        while True:
            await self._probe_once(watched)
            while (wait := watched.schedule.next_at - self._clock()) > 0:
                watched.wake.clear()
                try:
                    async with asyncio.timeout(wait):
                        await watched.wake.wait()
                except TimeoutError:
                    break

    async def _probe_once(self, watched: WatchedServer) -> None:
        watched.schedule.start_probe(self._clock())
        watched.note_calls(self._catalog.loads.get(watched.server.name))
        server = watched.server
        engine = self._engines.get(server.kind)
        if engine is None:
            result = ProbeResult(error=PenstockError(f"This gateway has no engine of kind {server.kind}."))
        else:
            fresh = watched.schedule.failures > 0
            result = await self._prober.probe_server(server, engine, watched.models, fresh=fresh)
        self._apply_result(watched, result)
        done, watched.probe_done = watched.probe_done, asyncio.Event()
        done.set()

    def _apply_result(self, watched: WatchedServer, result: ProbeResult) -> None:
        """Update status, schedule, log and catalog after a probe."""
        now, previous, schedule = self._clock(), watched.status, watched.schedule
        name = watched.server.name
        if is_excusable_timeout(previous, result, self._catalog.loads.get(name), schedule.failures):
            schedule.finish_probe(now, False, self._random())
            logger.debug("Server %s is busy: %s", name, result.error)
            return
        watched.status = evaluate_probe(previous, result, now)
        self._log.log_unexpected_error(watched, result.error)
        watched.models = result.inventory.models if result.inventory else watched.models
        if not watched.joined and self._should_join(watched):
            watched.joined = True
            self._log.log_join(watched.status)
        if watched.joined:
            schedule.finish_probe(now, watched.status.is_up, self._random())
            self._log.log_state_change(previous, watched.status)
        else:
            schedule.finish_without_server(now, self._choose_search_interval(), self._random())
            reason = watched.status.error.removesuffix(".") or "no model"
            logger.debug("No server was found at %s: %s.", watched.server.url, reason)
            watched.status = ServerStatus(watched.server)
        watched.probed.set()
        self._publish()
        self._retire_simulated_servers(watched)
        if not self._log.has_summary and self.has_probed_all:
            self._write_summary()

    def _should_join(self, watched: WatchedServer) -> bool:
        """Return True if an unconfigured server becomes part of the fleet; beside simulated ones it needs a model."""
        has_simulated = any(other.server.is_simulated for other in self._watched.values())
        return watched.status.is_up and bool(watched.status.models or not has_simulated)

    def _choose_search_interval(self) -> float:
        """Return how often to probe where nothing was found: often while there is no real server."""
        has_real_server = any(w.joined and not w.server.is_simulated for w in self._watched.values())
        return self._interval if has_real_server else self._search_interval

    def _retire_simulated_servers(self, watched: WatchedServer) -> None:
        """Remove the simulated servers if this is the first real one with a model."""
        if watched.server.is_simulated or not (watched.joined and watched.status.is_up and watched.status.models):
            return
        simulated = [name for name, other in self._watched.items() if other.server.is_simulated]
        self._real_server_found = True
        if not simulated:
            return
        for name in simulated:
            self._remove(self._watched.pop(name))
        self._publish()
        if self.on_real_server:
            try:
                self.on_real_server(watched.status)
            except Exception:
                logger.exception("The simulated servers could not be removed.")

    # Publishing

    def _publish(self) -> None:
        self._catalog.publish(self._effective_status(watched) for watched in self._watched.values() if watched.joined)

    def _effective_status(self, watched: WatchedServer) -> ServerStatus:
        status = watched.status
        if watched.server.name not in self._drained or status.state is State.DOWN:
            return status
        return replace(status, state=State.DRAINING, detail="it is being drained and gets no new calls")

    def _write_summary(self) -> None:
        self._log.log_summary([watched.status for watched in self._watched.values() if watched.joined])
