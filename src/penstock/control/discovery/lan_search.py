"""Finds model servers that no setting names: by the names that people give them, announcements, and subnets told."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from penstock.control.discovery import deduplication, port_scan
from penstock.control.discovery.deduplication import Candidate, Peer
from penstock.control.discovery.dns_sd import Announcement, Service
from penstock.control.discovery.mdns import Mdns
from penstock.control.discovery.name_resolution import NamesByMdns, Place
from penstock.control.discovery.watcher import Watcher
from penstock.domain.fleet import Server

log = logging.getLogger(__name__)

USUAL_NAMES = ("ollama.local", "ollama-server.local", "ollama", "ollama-server")
OLLAMA, PENSTOCK = "_ollama._tcp", "_penstock._tcp"
OLLAMA_PORT = 11434
SETTLE = 0.1
"""Seconds to wait for what comes along with a piece of news."""


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look, and what to tell. `servers` are those that settings name, `port` the one we listen on ourselves.

    `names`: look for the usual names and for announcements. `announce`: make this gateway known to the local network.
    """

    servers: tuple[Server, ...] = ()
    names: bool = False
    subnets: tuple[str, ...] = ()
    announce: Announcement | None = None
    port: int = 0

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look for."""
        return self.names or bool(self.subnets)


class Network:
    """Tells the watcher of servers that were found, in the background, and takes back those that are gone.

    Found ones are looked at again every `interval` seconds, subnets every `scan_interval`. A server that is no longer
    heard of stays as long as it answers.
    """

    def __init__(
        self,
        watcher: Watcher,
        mdns: Mdns,
        names: NamesByMdns,
        *,
        knock: port_scan.Knock = port_scan.knock,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 30.0,
        scan_interval: float = 600.0,
        usual_names: tuple[str, ...] = USUAL_NAMES,
    ) -> None:
        self._watcher = watcher
        self._mdns = mdns
        self._names = names
        self._knock = knock
        self._clock = clock
        self._interval = interval
        self._scan_interval = scan_interval
        self._usual = usual_names
        self._search = Search()
        self._narrowed = False
        self._news = asyncio.Event()
        self._found: tuple[Server, ...] = ()
        self._scanned: tuple[str, ...] = ()
        self._scanned_for: tuple[str, ...] = ()
        self._scanned_at = float("-inf")
        self._scanning: asyncio.Task[None] | None = None
        self._greeted: set[Peer] = set()
        self._task: asyncio.Task[None] | None = None
        self.peers: tuple[Peer, ...] = ()
        mdns.on_services = self._news.set

    def look(self, search: Search) -> None:
        """Look for this from now on, in the background; needs a running event loop."""
        self._narrowed |= (search.names, search.subnets) != (self._search.names, self._search.subnets)
        self._search = search
        self._mdns_for(search)
        self._news.set()
        if search.wanted and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_looking(), name="watch the network")

    async def stop(self) -> None:
        """End; mDNS is not ended with it."""
        tasks = [task for task in (self._task, self._scanning) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = self._scanning = None

    def _mdns_for(self, search: Search) -> None:
        for type_ in (OLLAMA, PENSTOCK):
            if search.names:
                self._mdns.browse(type_)
            else:
                self._mdns.unbrowse(type_)
        self._mdns.announce(search.announce)

    async def _keep_looking(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._look_around()
            except Exception:
                log.exception("Looking for servers on the network failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._news.wait()
                await asyncio.sleep(SETTLE)

    async def _look_around(self) -> None:
        search = self._search
        self._scan_if_due(search)
        services = self._mdns.services(OLLAMA) if search.names else ()
        gateways = self._mdns.services(PENSTOCK) if search.names else ()
        candidates = [deduplication.announced(service, await self._of_service(service)) for service in services]
        if search.names:
            urls = [f"http://{name}:{OLLAMA_PORT}" for name in self._usual]
            places = await asyncio.gather(*(self._names.places(url) for url in urls))
            candidates += [Candidate(*one) for one in zip(self._usual, urls, places, strict=True)]
        for host in self._scanned:
            url = f"http://{host}:{OLLAMA_PORT}"
            candidates.append(Candidate(host, url, await self._names.places(url)))
        if not self._narrowed:  # else they may be of a kind that is no longer looked for
            candidates += await self._remaining({candidate.url for candidate in candidates if candidate.places})
        own = frozenset({("localhost", search.port)})
        taken = await self._places(url for server in search.servers for url in server.urls)
        circles = [await self._of_service(gateway) for gateway in gateways]
        if search is not self._search:
            return
        names = [server.name for server in search.servers]
        self._found = deduplication.choose(candidates, taken.union(own, *circles), names, self._found)
        self._narrowed = False
        self._watcher.set_found(self._found)
        self._greet(gateways, circles, own)

    async def _remaining(self, heard: set[str]) -> list[Candidate]:
        """What was found before, is not heard of any more, and answers all the same."""
        up = self._watcher.answering() - heard
        quiet = [server for server in self._found if server.url in up]
        return [Candidate(server.name, server.url, await self._places([server.url])) for server in quiet]

    async def _of_service(self, service: Service) -> frozenset[Place]:
        """Where a service is, by what it says of itself, else by its host's name."""
        urls = [
            f"http://{deduplication.bracketed(host)}:{service.port}" for host in service.addresses or (service.host,)
        ]
        return await self._places(urls)

    async def _places(self, urls: Iterable[str]) -> frozenset[Place]:
        found = await asyncio.gather(*(self._names.places(url) for url in urls))
        return frozenset().union(*found)

    def _scan_if_due(self, search: Search) -> None:
        """A scan takes seconds: what names tell need not wait for it."""
        now = self._clock()
        other = search.subnets != self._scanned_for
        if self._scanning and not self._scanning.done():
            if not other:
                return
            self._scanning.cancel()
        if other or (search.subnets and now - self._scanned_at >= self._scan_interval):
            self._scanned_for, self._scanned_at = search.subnets, now
            hosts = port_scan.addresses(search.subnets)
            self._scanned = tuple(host for host in self._scanned if host in hosts)
            self._scanning = asyncio.get_running_loop().create_task(self._scan(hosts), name="scan")

    async def _scan(self, hosts: tuple[str, ...]) -> None:
        found = await port_scan.scan(hosts, OLLAMA_PORT, self._knock)
        log.debug("Scanned %d addresses, something listens at %d", len(hosts), len(found))
        if found != self._scanned:
            self._scanned = found
            self._news.set()

    def _greet(self, gateways: tuple[Service, ...], circles: list[frozenset[Place]], own: frozenset[Place]) -> None:
        """Other gateways are told of once each."""
        self.peers = tuple(
            Peer(service.name, f"http://{deduplication.bracketed(service.host)}:{service.port}", _version(service))
            for service, places in zip(gateways, circles, strict=True)
            if not own & places
        )
        for peer in self.peers:
            if peer not in self._greeted:
                self._greeted.add(peer)
                use = "it is not used, unless llm.providers.openai.servers names it"
                log.info("Another gateway is on the network: %s (%s); %s", peer.name, peer.url, use)


def _version(service: Service) -> str:
    return service.properties.get("version", "")[:64]
