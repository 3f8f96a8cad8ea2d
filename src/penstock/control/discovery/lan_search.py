"""Finds model servers that nobody configured: by common host names, mDNS announcements, and scans of listed subnets."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from penstock.control.discovery import deduplication, port_scan
from penstock.control.discovery.deduplication import FoundServer, OtherGateway, format_host
from penstock.control.discovery.dns_sd import Announcement, Service
from penstock.control.discovery.mdns import Mdns
from penstock.control.discovery.name_resolution import MdnsResolver, ResolvedAddress
from penstock.control.discovery.watcher import Watcher
from penstock.domain.fleet import Server

log = logging.getLogger(__name__)

COMMON_HOSTNAMES = ("ollama.local", "ollama-server.local", "ollama", "ollama-server")
OLLAMA_SERVICE, PENSTOCK_SERVICE = "_ollama._tcp", "_penstock._tcp"
OLLAMA_PORT = 11434
SETTLE_TIME = 0.1
"""Seconds to wait for further changes after the first one, before searching again."""


@dataclass(frozen=True, slots=True)
class LanSearchSettings:
    """Targets of the search, and the announcement. `servers` are configured, `port` is the one this gateway listens on.

    `mdns`: look for common host names and announced services. `announcement`: announce this gateway.
    """

    servers: tuple[Server, ...] = ()
    mdns: bool = False
    subnets: tuple[str, ...] = ()
    announcement: Announcement | None = None
    port: int = 0

    @property
    def is_enabled(self) -> bool:
        """True if there is anything to search for."""
        return self.mdns or bool(self.subnets)


class LanSearch:
    """Searches the network in the background and keeps the watcher's list of found servers up to date.

    It searches every `interval` seconds and scans subnets every `scan_interval`. A server that is no longer announced
    stays as long as it answers.
    """

    def __init__(
        self,
        watcher: Watcher,
        mdns: Mdns,
        resolver: MdnsResolver,
        *,
        connect: port_scan.TryConnect = port_scan.try_connect,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 30.0,
        scan_interval: float = 600.0,
        hostnames: tuple[str, ...] = COMMON_HOSTNAMES,
    ) -> None:
        self._watcher = watcher
        self._mdns = mdns
        self._resolver = resolver
        self._connect = connect
        self._clock = clock
        self._interval = interval
        self._scan_interval = scan_interval
        self._hostnames = hostnames
        self._settings = LanSearchSettings()
        self._targets_changed = False
        self._wake = asyncio.Event()
        self._found: tuple[Server, ...] = ()
        self._scan_hits: tuple[str, ...] = ()
        self._scanned_subnets: tuple[str, ...] = ()
        self._scanned_at = float("-inf")
        self._scan_task: asyncio.Task[None] | None = None
        self._logged_gateways: set[OtherGateway] = set()
        self._task: asyncio.Task[None] | None = None
        self.other_gateways: tuple[OtherGateway, ...] = ()
        mdns.on_services_changed = self._wake.set

    def apply(self, settings: LanSearchSettings) -> None:
        """Search by these settings from now on, in the background; needs a running event loop."""
        self._targets_changed |= (settings.mdns, settings.subnets) != (self._settings.mdns, self._settings.subnets)
        self._settings = settings
        self._configure_mdns(settings)
        self._wake.set()
        if settings.is_enabled and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._search_repeatedly(), name="watch the network")

    async def stop(self) -> None:
        """Stop searching; mDNS is stopped by its owner."""
        tasks = [task for task in (self._task, self._scan_task) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = self._scan_task = None

    def _configure_mdns(self, settings: LanSearchSettings) -> None:
        for service_type in (OLLAMA_SERVICE, PENSTOCK_SERVICE):
            if settings.mdns:
                self._mdns.start_browsing(service_type)
            else:
                self._mdns.stop_browsing(service_type)
        self._mdns.set_announcement(settings.announcement)

    async def _search_repeatedly(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._search_once()
            except Exception:
                log.exception("The search for servers on the network failed.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
                await asyncio.sleep(SETTLE_TIME)

    async def _search_once(self) -> None:
        settings = self._settings
        self._start_scan_if_due(settings)
        found = await self._find_servers(settings)
        gateways = self._mdns.list_services(PENSTOCK_SERVICE) if settings.mdns else ()
        gateway_addresses = [await self._resolve_service(gateway) for gateway in gateways]
        own_address = frozenset({("localhost", settings.port)})
        configured = await self._resolve_urls(url for server in settings.servers for url in server.urls)
        if settings is not self._settings:
            return
        names = [server.name for server in settings.servers]
        taken = configured.union(own_address, *gateway_addresses)
        self._found = deduplication.select_new_servers(found, taken, names, self._found)
        self._targets_changed = False
        self._watcher.set_found_servers(self._found)
        self._update_gateways(
            gateway
            for gateway, addresses in zip(gateways, gateway_addresses, strict=True)
            if not own_address & addresses
        )

    async def _find_servers(self, settings: LanSearchSettings) -> list[FoundServer]:
        """Return all servers that are announced, have a common name, accepted a scan, or were found before."""
        services = self._mdns.list_services(OLLAMA_SERVICE) if settings.mdns else ()
        found = [deduplication.from_service(service, await self._resolve_service(service)) for service in services]
        if settings.mdns:
            urls = [f"http://{name}:{OLLAMA_PORT}" for name in self._hostnames]
            addresses = await asyncio.gather(*(self._resolver.resolve_addresses(url) for url in urls))
            found += [FoundServer(*fields) for fields in zip(self._hostnames, urls, addresses, strict=True)]
        for host in self._scan_hits:
            url = f"http://{host}:{OLLAMA_PORT}"
            found.append(FoundServer(host, url, await self._resolver.resolve_addresses(url)))
        if not self._targets_changed:  # otherwise they may come from a source that has been switched off
            found += await self._find_still_running({server.url for server in found if server.addresses})
        return found

    async def _find_still_running(self, found_urls: set[str]) -> list[FoundServer]:
        """Return the servers that were found before, are not found any more, and still answer."""
        urls = self._watcher.list_reachable_urls() - found_urls
        servers = [server for server in self._found if server.url in urls]
        return [FoundServer(server.name, server.url, await self._resolve_urls([server.url])) for server in servers]

    async def _resolve_service(self, service: Service) -> frozenset[ResolvedAddress]:
        """Return the addresses that a service announces, else those of its host name."""
        hosts = service.addresses or (service.host,)
        return await self._resolve_urls([f"http://{format_host(host)}:{service.port}" for host in hosts])

    async def _resolve_urls(self, urls: Iterable[str]) -> frozenset[ResolvedAddress]:
        addresses = await asyncio.gather(*(self._resolver.resolve_addresses(url) for url in urls))
        return frozenset().union(*addresses)

    def _start_scan_if_due(self, settings: LanSearchSettings) -> None:
        """Scan in a task of its own: a scan takes seconds, and results by name need not wait for it."""
        now = self._clock()
        subnets_changed = settings.subnets != self._scanned_subnets
        if self._scan_task and not self._scan_task.done():
            if not subnets_changed:
                return
            self._scan_task.cancel()
        if subnets_changed or (settings.subnets and now - self._scanned_at >= self._scan_interval):
            self._scanned_subnets, self._scanned_at = settings.subnets, now
            hosts = port_scan.list_hosts(settings.subnets)
            self._scan_hits = tuple(host for host in self._scan_hits if host in hosts)
            self._scan_task = asyncio.get_running_loop().create_task(self._scan_hosts(hosts), name="scan")

    async def _scan_hosts(self, hosts: tuple[str, ...]) -> None:
        hits = await port_scan.scan_hosts(hosts, OLLAMA_PORT, self._connect)
        log.debug("%d of %d scanned addresses accept connections.", len(hits), len(hosts))
        if hits != self._scan_hits:
            self._scan_hits = hits
            self._wake.set()

    def _update_gateways(self, services: Iterable[Service]) -> None:
        """Remember the other gateways and log each of them once."""
        self.other_gateways = tuple(
            OtherGateway(service.name, f"http://{format_host(service.host)}:{service.port}", _get_version(service))
            for service in services
        )
        for gateway in self.other_gateways:
            if gateway not in self._logged_gateways:
                self._logged_gateways.add(gateway)
                use = "It is not used unless llm.providers.openai.servers lists it."
                log.info("Another gateway is on the network: %s (%s). %s", gateway.name, gateway.url, use)


def _get_version(service: Service) -> str:
    return service.properties.get("version", "")[:64]
