"""Keeps the catalog true: looks at all servers at the start, then at each in the background, as long as it runs."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from penstock.control.discovery.health import SUSPICION_GAP, Pulse, Sight, forgivable, judge
from penstock.control.discovery.name_resolution import Names, NumbersAsWritten, host_of
from penstock.control.discovery.probe import Look
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Model, Server, ServerStatus, State
from penstock.engines.base import Engine, FetchFunction
from penstock.gateway.fleet.catalog import Catalog

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Watched:
    """A server under watch. `joined`: it is part of the fleet; an unconfigured one joins when it first answers.

    `ended` is set when the look that is under way, or the next one, has ended.

    `known` is all models of the last look, also those that the settings do not offer. `puzzle` is the unexpected error
    of the last look.
    """

    server: Server
    status: ServerStatus
    pulse: Pulse
    joined: bool
    known: tuple[Model, ...] = ()
    puzzle: str = ""
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    poke: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Watcher:
    """Owner of the looks at servers, and the only publisher of the catalog.

    `start` begins, `first_look` waits until every server has been looked at, `stop` ends it and leaves no task behind.
    Each server has one look in flight at most, every `interval` seconds ± 10 %, sooner while it fails or when
    `suspect` tells of a failed call.
    Servers with `configured=False` are looked at without a word and join when they answer: every `search_interval`
    seconds while the fleet is simulated or empty. The first real server with a model removes simulated ones for good;
    then `on_real_server` is called with its status.
    A drained server is watched on and shown as draining; calls that run there come to their end.
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
        chance: Callable[[], float] = random.random,
        names: Names | None = None,
    ) -> None:
        self._engines = engines
        self._catalog = catalog
        self._look = Look(fetch, clock, timeout, names or NumbersAsWritten())
        self._timeout = timeout
        self._clock = clock
        self._chance = chance
        self._interval = interval
        self._first_retry = first_retry
        self._search_interval = search_interval
        self.on_real_server = on_real_server
        self._running = False
        self._announced = False
        self._real_found = False
        self._watched: dict[str, _Watched] = {}
        self._told: tuple[Server, ...] = ()
        self._found: tuple[Server, ...] = ()
        self._drained: set[str] = set()
        self._ended: set[asyncio.Task[None]] = set()
        self.set_servers(servers)

    @property
    def looked(self) -> bool:
        """Whether every server has been looked at since it was added."""
        return self._running and all(watched.seen.is_set() for watched in self._watched.values())

    def start(self) -> None:
        """Begin: needs a running event loop."""
        self._running = True
        configured = [w.server.kind for w in self._watched.values() if w.server.configured]
        kinds = dict.fromkeys(configured or [w.server.kind for w in self._watched.values()])
        titles = [self._engines[kind].title.removesuffix(" server") for kind in kinds if kind in self._engines]
        logger.info("Discovering %s servers and models...", ", ".join(titles) or "model")
        for watched in self._watched.values():
            self._begin(watched)
        if not self._watched:
            self._announce()

    async def first_look(self) -> None:
        """Wait until every server that is watched now has been looked at; the catalog shows what was found."""
        while waiting := [w for w in self._watched.values() if not w.seen.is_set()]:
            await asyncio.gather(*(watched.seen.wait() for watched in waiting))

    async def stop(self) -> None:
        """End all looks and wait for them."""
        self._running = False
        for watched in self._watched.values():
            self._end(watched)
        while self._ended:
            await asyncio.gather(*self._ended, return_exceptions=True)

    def suspect(self, name: str) -> None:
        """A call to this server has failed: look at it now, but not more than once a second."""
        watched = self._watched.get(name)
        if watched and watched.pulse.suspect(self._clock()):
            watched.poke.set()

    def look_again(self) -> "asyncio.Task[None] | None":
        """Look at the servers that are up before a client is told that something is not there: it may be new.

        What has been seen within a second is not looked at again. Ends when all looks have; None: no look is needed.
        """
        now = self._clock()
        due = [watched for watched in self._watched.values() if watched.status.is_up and watched.pulse.stale(now)]
        for watched in due:
            if watched.pulse.suspect(now):
                watched.poke.set()
        return asyncio.get_running_loop().create_task(self._looks_after(now, due)) if due else None

    async def _looks_after(self, asked_at: float, due: list[_Watched]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout + SUSPICION_GAP):
                for watched in due:
                    while watched.pulse.looking or watched.pulse.began_at < asked_at:
                        await watched.ended.wait()

    def set_servers(self, servers: Iterable[Server]) -> None:
        """Watch these servers from now on, in this order. Those that stay as they are notice nothing.

        One whose addresses, kind and credentials stay keeps what is known of it; the rest is looked at anew.
        Simulated ones are left out once a real server was found.
        """
        self._told = tuple(servers)
        self._arrange()

    def set_found(self, servers: Iterable[Server]) -> None:
        """Watch these too, until told otherwise: servers of the network that no setting names."""
        found = tuple(servers)
        if found != self._found:
            self._found = found
            self._arrange()

    def answering(self) -> frozenset[str]:
        """The main addresses of the servers that are up."""
        return frozenset(watched.server.url for watched in self._watched.values() if watched.status.is_up)

    def drain(self, name: str) -> bool:
        """Give this server no new calls; those that run there come to their end. False: there is no such server."""
        return self._hold(name, True)

    def enable(self, name: str) -> bool:
        """Give a drained server calls again. False: there is no such server."""
        return self._hold(name, False)

    def moved(self, host: str) -> None:
        """A name on the network has another address: look at the servers that are known by it."""
        for watched in self._watched.values():
            if any(host_of(url) == host for url in watched.server.urls) and watched.pulse.suspect(self._clock()):
                watched.poke.set()

    def _hold(self, name: str, drained: bool) -> bool:
        if name not in self._watched:
            return False
        if drained != (name in self._drained):
            self._drained ^= {name}
            told = "gets no new calls; those that run there come to their end" if drained else "gets calls again"
            logger.info("Server %s %s", name, told)
            self._publish()
        return True

    def _arrange(self) -> None:
        before, self._watched = self._watched, {}
        for server in (*self._told, *self._found):
            if (server.is_simulated and self._real_found) or server.name in self._watched:
                continue
            old = before.pop(server.name, None)
            self._watched[server.name] = self._taken_over(old, server) if old else self._new(server)
        for gone in before.values():
            gone.seen.set()
            self._end(gone)
        self._drained &= set(self._watched)
        self._publish()

    def _new(self, server: Server) -> _Watched:
        pulse = Pulse(self._interval, self._first_retry)
        watched = _Watched(server, ServerStatus(server), pulse, joined=server.configured)
        if self._running:
            self._begin(watched)
        return watched

    def _taken_over(self, old: _Watched, server: Server) -> _Watched:
        if old.server == server:
            return old
        if _reached(old.server) != _reached(server):
            old.seen.set()
            self._end(old)
            return self._new(server)
        old.server = server
        old.status = replace(old.status, server=server)
        old.joined = old.joined or server.configured
        old.pulse.next_at = self._clock()
        old.poke.set()
        return old

    def _begin(self, watched: _Watched) -> None:
        watched.task = asyncio.create_task(self._keep_looking(watched), name=f"watch {watched.server.name}")

    def _end(self, watched: _Watched) -> None:
        if task := watched.task:
            watched.task = None
            self._ended.add(task)
            task.add_done_callback(self._ended.discard)
            task.cancel()

    async def _keep_looking(self, watched: _Watched) -> None:
        while True:
            await self._look_once(watched)
            while (wait := watched.pulse.next_at - self._clock()) > 0:
                watched.poke.clear()
                try:
                    async with asyncio.timeout(wait):
                        await watched.poke.wait()
                except TimeoutError:
                    break

    async def _look_once(self, watched: _Watched) -> None:
        watched.pulse.begin(self._clock())
        engine = self._engines.get(watched.server.kind)
        if engine is None:
            sight = Sight(error=PenstockError(f"this gateway knows no engine of kind {watched.server.kind}"))
        else:
            sight = await self._look.at(watched.server, engine, watched.known, fresh=watched.pulse.failures > 0)
        self._take(watched, sight)
        ended, watched.ended = watched.ended, asyncio.Event()
        ended.set()

    def _take(self, watched: _Watched, sight: Sight) -> None:
        """What a look saw becomes the server's status, the log's line and the catalog's next snapshot."""
        now, before = self._clock(), watched.status
        pulse, name = watched.pulse, watched.server.name
        if forgivable(before, sight, self._catalog.loads.get(name), pulse.failures):
            pulse.settle(now, False, self._chance())
            logger.debug("Server %s is busy: %s", name, sight.error)
            return
        watched.status = judge(before, sight, now)
        self._puzzle(watched, sight.error)
        watched.known = sight.inventory.models if sight.inventory else watched.known
        watched.joined = watched.joined or self._joins(watched)
        if watched.joined:
            pulse.settle(now, watched.status.is_up, self._chance())
            self._tell(watched, before)
        else:
            wanting = not any(w.joined and not w.server.is_simulated for w in self._watched.values())
            pulse.idle(now, self._search_interval if wanting else self._interval, self._chance())
            logger.debug("Nothing at %s: %s", watched.server.url, watched.status.error or "no model")
            watched.status = ServerStatus(watched.server)
        watched.seen.set()
        self._publish()
        self._welcome(watched)
        if not self._announced and self.looked:
            self._announce()

    def _joins(self, watched: _Watched) -> bool:
        """Whether an unconfigured server becomes part of the fleet; beside simulated ones it needs a model."""
        simulated = any(other.server.is_simulated for other in self._watched.values())
        return watched.status.is_up and bool(watched.status.models or not simulated)

    def _welcome(self, watched: _Watched) -> None:
        """The first real server with a model sends the simulated ones away."""
        if watched.server.is_simulated or not (watched.joined and watched.status.is_up and watched.status.models):
            return
        simulated = [name for name, other in self._watched.items() if other.server.is_simulated]
        self._real_found = True
        if not simulated:
            return
        for name in simulated:
            gone = self._watched.pop(name)
            gone.seen.set()
            self._end(gone)
        self._publish()
        if self.on_real_server:
            try:
                self.on_real_server(watched.status)
            except Exception:
                logger.exception("Could not take leave of the simulated servers")

    def _publish(self) -> None:
        self._catalog.publish(self._shown(watched) for watched in self._watched.values() if watched.joined)

    def _shown(self, watched: _Watched) -> ServerStatus:
        status = watched.status
        if watched.server.name not in self._drained or status.state is State.DOWN:
            return status
        return replace(status, state=State.DRAINING, detail="it is being drained and gets no new calls")

    def _announce(self) -> None:
        """What the first look found, a line for each server."""
        self._announced = True
        fleet = [watched.status for watched in self._watched.values() if watched.joined]
        for status in fleet:
            if status.state is State.DOWN:
                self._warn(status)
            else:
                logger.info("Server %s (%s): %s", status.server.name, status.url, _size(status))
        up = [status for status in fleet if status.is_up]
        names = {model.name.lower().removesuffix(":latest") for status in up for model in status.models}
        logger.info("Discovery complete: %d/%d servers available, %d unique models", len(up), len(fleet), len(names))

    def _puzzle(self, watched: _Watched, error: Exception | None) -> None:
        """A look that failed as none should is told of once, and where in the program."""
        if error is None or isinstance(error, PenstockError):
            watched.puzzle = ""
            return
        puzzle = f"{type(error).__name__}: {error}"
        if puzzle != watched.puzzle:
            watched.puzzle = puzzle
            logger.error("Looking at server %s failed: %s", watched.server.name, puzzle, exc_info=error)

    def _tell(self, watched: _Watched, before: ServerStatus) -> None:
        """One line for each change of state."""
        status = watched.status
        if not self._announced or before.state is status.state:
            return
        if before.state is State.UNKNOWN and status.state is State.DOWN:
            self._warn(status)
        elif before.state is State.UNKNOWN:
            logger.info("Server %s (%s): %s", status.server.name, status.url, _size(status))
        elif status.state is State.DOWN:
            logger.warning("Server %s is down: %s", status.server.name, status.error)
        elif status.state is State.LOADING:
            logger.info("Server %s is loading a model", status.server.name)
        else:
            again = "up again" if before.state is State.DOWN else "ready"
            logger.info("Server %s is %s: %s", status.server.name, again, _size(status))

    def _warn(self, status: ServerStatus) -> None:
        server = status.server
        setting = server.setting or "its address in the settings (`penstock check-config` shows it)"
        line = "Server %s (%s) does not answer: %s; check that it runs, and %s"
        logger.warning(line, server.name, ", ".join(server.urls), status.error, setting)


def _reached(server: Server) -> tuple[object, ...]:
    """What decides which server is talked to, and how."""
    return server.kind, server.urls, server.api_key, server.credentials, server.verify_tls, server.is_simulated


def _size(status: ServerStatus) -> str:
    return f"{len(status.models)} models, {status.response_time * 1000:.0f}ms"
