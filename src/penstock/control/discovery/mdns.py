"""Multicast DNS by zeroconf: host names of the local network, announced services, and the gateway's own announcement.

It starts when it is first needed. Without multicast, with the port taken or without the package it logs one line and
finds nothing; nothing else fails.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.control.discovery.dns_sd import Announcement, Service

if TYPE_CHECKING:
    from zeroconf import RecordUpdate, ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    from penstock.control.discovery.zeroconf_adapter import ZeroconfLibrary

log = logging.getLogger(__name__)

RESOLVE_TIMEOUT = 0.75
"""Seconds to wait for an answer to a name."""

STOP_TIMEOUT = 2.0
"""Seconds that withdrawing the announcement may take."""

MAX_SERVICES = 64
"""Services kept of one type; any more are ignored."""


class Mdns:
    """Names and services of the local network. `interfaces` are addresses to use; empty: all.

    `timeout` is the seconds to wait for an answer to a name; descriptions of services may take four times as long.

    `on_address_changed` is called with a name that was resolved before and now has another address,
    `on_services_changed` when services of a browsed type have appeared, changed or disappeared.
    """

    def __init__(self, interfaces: Sequence[str] = (), timeout: float = RESOLVE_TIMEOUT) -> None:
        self._interfaces = tuple(interfaces)
        self._timeout = timeout
        self.on_address_changed: Callable[[str], None] | None = None
        self.on_services_changed: Callable[[], None] | None = None
        self._start_task: asyncio.Task[AsyncZeroconf | None] | None = None
        self._library: ZeroconfLibrary | None = None
        self._requested_names: set[str] = set()
        self._services: dict[str, dict[str, Service]] = {}
        self._browsers: dict[str, AsyncServiceBrowser] = {}
        self._announcement: Announcement | None = None
        self._registered: tuple[Announcement, AsyncServiceInfo] | None = None
        self._registration_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def list_services(self, type_: str) -> tuple[Service, ...]:
        """Return the services of a browsed type, sorted by name."""
        return tuple(service for _, service in sorted(self._services.get(type_, {}).items()))

    async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        """Return the addresses of a `.local` name, the newest first; empty if nobody answers in time.

        `fresh`: do not use cached records.
        """
        name = name.lower().rstrip(".")
        zeroconf = await self._get_zeroconf()
        if zeroconf is None or self._library is None:
            return ()
        self._requested_names.add(name)
        try:
            addresses = await self._library.resolve_host(zeroconf.zeroconf, name, fresh, self._timeout)
        except Exception as error:  # from the library, or because the network is gone
            log.debug("mDNS could not resolve %s: %s.", name, error)
            return ()
        return tuple(filter(_is_usable_address, addresses))

    def start_browsing(self, type_: str) -> None:
        """Keep track of the services of a type, such as `_ollama._tcp`."""
        if type_ not in self._services:
            self._services[type_] = {}
            self._start_background(self._add_browser(type_))

    def stop_browsing(self, type_: str) -> None:
        """Forget the services of a type."""
        self._services.pop(type_, None)
        if browser := self._browsers.pop(type_, None):
            self._start_background(browser.async_cancel())

    def set_announcement(self, announcement: Announcement | None) -> None:
        """Announce this service instead of the previous one; None: withdraw it."""
        if announcement != self._announcement:
            self._announcement = announcement
            self._start_background(self._update_registration())

    async def stop(self) -> None:
        """Withdraw the announcement and close all sockets."""
        self._is_stopped = True
        tasks = [*self._tasks, *([self._start_task] if self._start_task else [])]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        zeroconf = self._start_task.result() if self._start_task and not self._start_task.cancelled() else None
        if zeroconf is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STOP_TIMEOUT):
                    for browser in self._browsers.values():
                        await browser.async_cancel()
                    await zeroconf.async_unregister_all_services()
                    await zeroconf.async_close()
        self._start_task = None

    async def _get_zeroconf(self) -> "AsyncZeroconf | None":
        if self._is_stopped:
            return None
        if self._start_task is None:
            self._start_task = asyncio.get_running_loop().create_task(self._open_zeroconf(), name="start mdns")
        return await asyncio.shield(self._start_task)

    async def _open_zeroconf(self) -> "AsyncZeroconf | None":
        try:
            self._library = await asyncio.to_thread(_import_library)
            zeroconf = self._library.open_sockets(self._interfaces)
            self._library.add_listener(zeroconf.zeroconf, self._on_records)
        except Exception as error:  # no package, no network, or the port is taken
            log.warning("mDNS is not available, so .local names and announced servers are not found: %s.", error)
            return None
        return zeroconf

    async def _add_browser(self, type_: str) -> None:
        zeroconf = await self._get_zeroconf()
        if zeroconf is None or self._library is None or type_ not in self._services:
            return
        self._browsers[type_] = self._library.create_browser(zeroconf.zeroconf, type_, self._on_service_change)

    def _on_service_change(
        self, zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange"
    ) -> None:
        type_ = service_type.removesuffix(".local.")
        if state_change.name == "Removed":
            if self._services.get(type_, {}).pop(name, None):
                self._report_services()
        else:
            self._start_background(self._update_service(zeroconf, type_, name))

    async def _update_service(self, zeroconf: "Zeroconf", type_: str, name: str) -> None:
        if self._library is None:
            return
        service = await self._library.fetch_service(zeroconf, type_, name, 4 * self._timeout)
        services = self._services.get(type_)
        if services is None or service is None or (len(services) >= MAX_SERVICES and name not in services):
            return
        service = replace(service, addresses=tuple(filter(_is_usable_address, service.addresses)))
        if services.get(name) != service:
            services[name] = service
            self._report_services()

    def _on_records(self, records: "list[RecordUpdate]") -> None:
        """Report each requested name that has a new address."""
        changed = {
            update.new.name.lower().rstrip(".")
            for update in records
            if update.old is None and is_address_record(update)
        }
        for name in changed & self._requested_names:
            if self.on_address_changed:
                self.on_address_changed(name)

    async def _update_registration(self) -> None:
        """Register the announcement that is set, in place of the registered one."""
        zeroconf = await self._get_zeroconf()
        if zeroconf is None or self._library is None:
            return
        async with self._registration_lock:
            announcement = self._announcement
            if self._registered is not None:
                registered, info = self._registered
                if registered == announcement:
                    return
                self._registered = None
                await (await zeroconf.async_unregister_service(info))
            if announcement is None:
                return
            info = self._library.build_service_info(announcement, announcement.addresses or self._interfaces)
            try:
                await (await zeroconf.async_register_service(info, allow_name_change=True))
            except Exception as error:  # from the library or the network
                log.warning("This gateway could not be announced on the local network: %s.", error)
                return
            self._registered = announcement, info
            log.info("This gateway is announced on the local network as %s.", info.name.removesuffix("."))

    def _report_services(self) -> None:
        if self.on_services_changed and not self._is_stopped:
            self.on_services_changed()

    def _start_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("A background task of mDNS failed: %s: %s.", type(error).__name__, error)


def is_address_record(update: "RecordUpdate") -> bool:
    """Return True if a record is of type A or AAAA."""
    return update.new.type in (1, 28)


def _is_usable_address(address: str) -> bool:
    """Return False for multicast, and for link-local IPv6, which is useless without the name of its interface."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_multicast or parsed.is_unspecified or (parsed.version == 6 and parsed.is_link_local))


def _import_library() -> "ZeroconfLibrary":
    from penstock.control.discovery import zeroconf_adapter  # noqa: PLC0415  # lazy: zeroconf, only when mDNS is used

    return zeroconf_adapter.ZeroconfLibrary()
