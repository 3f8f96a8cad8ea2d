"""Multicast DNS by zeroconf: names of the local network, services that announce themselves, and our own announcement.

Begins when it is first needed. A network without multicast, a port that is taken, a missing package: one line in the
log, and names are then not found; nothing else fails.
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

    from penstock.control.discovery.mdns_zeroconf import Library

log = logging.getLogger(__name__)

PATIENCE = 0.75
"""Seconds to wait for somebody who answers to a name."""

FAREWELL = 2.0
"""Seconds that taking back what was announced may take."""

MOST_SERVICES = 64
"""Services kept of one type: a network that announces more is not believed."""


class Mdns:
    """The local network's names and services. `interfaces` are addresses to use; none: all there are.

    `patience` is how many seconds somebody has to answer to a name, four times as many to describe a service.

    `on_moved` is called with a name that has been asked for and now has another address, `on_services` when services of
    a browsed type have come, changed or gone. `stop` says goodbye and leaves nothing behind.
    """

    def __init__(self, interfaces: Sequence[str] = (), patience: float = PATIENCE) -> None:
        self._interfaces = tuple(interfaces)
        self._patience = patience
        self.on_moved: Callable[[str], None] | None = None
        self.on_services: Callable[[], None] | None = None
        self._beginning: asyncio.Task[AsyncZeroconf | None] | None = None
        self._library: Library | None = None
        self._asked: set[str] = set()
        self._services: dict[str, dict[str, Service]] = {}
        self._browsers: dict[str, AsyncServiceBrowser] = {}
        self._wanted: Announcement | None = None
        self._told: tuple[Announcement, AsyncServiceInfo] | None = None
        self._renewing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def services(self, type_: str) -> tuple[Service, ...]:
        """The services of a browsed type, by name."""
        return tuple(service for _, service in sorted(self._services.get(type_, {}).items()))

    async def addresses(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        """The addresses of a `.local` name, the newest first; empty when nobody answers in time.

        `fresh`: what is known already is not believed.
        """
        name = name.lower().rstrip(".")
        zeroconf = await self._running()
        if zeroconf is None or self._library is None:
            return ()
        self._asked.add(name)
        try:
            found = await self._library.resolve(zeroconf.zeroconf, name, fresh, self._patience)
        except Exception as error:  # the library's, or the network's that went away: nothing is found
            log.debug("mDNS could not resolve %s: %s", name, error)
            return ()
        return tuple(filter(_reachable, found))

    def browse(self, type_: str) -> None:
        """Look for services of a type, such as `_ollama._tcp`, from now on."""
        if type_ not in self._services:
            self._services[type_] = {}
            self._spawn(self._browse(type_))

    def unbrowse(self, type_: str) -> None:
        """Look for them no longer, and forget them."""
        self._services.pop(type_, None)
        if browser := self._browsers.pop(type_, None):
            self._spawn(browser.async_cancel())

    def announce(self, announcement: Announcement | None) -> None:
        """Make this known from now on, in place of what was; None: nothing."""
        if announcement != self._wanted:
            self._wanted = announcement
            self._spawn(self._renew())

    async def stop(self) -> None:
        """Take back what was announced, and end."""
        self._stopped = True
        tasks = [*self._tasks, *([self._beginning] if self._beginning else [])]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        zeroconf = self._beginning.result() if self._beginning and not self._beginning.cancelled() else None
        if zeroconf is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(FAREWELL):
                    for browser in self._browsers.values():
                        await browser.async_cancel()
                    await zeroconf.async_unregister_all_services()
                    await zeroconf.async_close()
        self._beginning = None

    async def _running(self) -> "AsyncZeroconf | None":
        if self._stopped:
            return None
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().create_task(self._begin(), name="mdns begins")
        return await asyncio.shield(self._beginning)

    async def _begin(self) -> "AsyncZeroconf | None":
        try:
            self._library = await asyncio.to_thread(_library)
            zeroconf = self._library.open(self._interfaces)
            self._library.listen(zeroconf.zeroconf, self._updated)
        except Exception as error:  # a package that is not there, a port or network that is not to be had
            log.warning("mDNS is not to be had, so .local names and announced servers are not found: %s", error)
            return None
        return zeroconf

    async def _browse(self, type_: str) -> None:
        zeroconf = await self._running()
        if zeroconf is None or self._library is None or type_ not in self._services:
            return
        self._browsers[type_] = self._library.browse(zeroconf.zeroconf, type_, self._changed)

    def _changed(self, zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange") -> None:
        type_ = service_type.removesuffix(".local.")
        if state_change.name == "Removed":
            if self._services.get(type_, {}).pop(name, None):
                self._notify()
        else:
            self._spawn(self._look_at(zeroconf, type_, name))

    async def _look_at(self, zeroconf: "Zeroconf", type_: str, name: str) -> None:
        if self._library is None:
            return
        service = await self._library.describe(zeroconf, type_, name, 4 * self._patience)
        known = self._services.get(type_)
        if known is None or service is None or (len(known) >= MOST_SERVICES and name not in known):
            return
        service = replace(service, addresses=tuple(filter(_reachable, service.addresses)))
        if known.get(name) != service:
            known[name] = service
            self._notify()

    def _updated(self, records: "list[RecordUpdate]") -> None:
        """A name that somebody asked for has got an address that it did not have."""
        fresh = {update.new.name.lower().rstrip(".") for update in records if update.old is None and is_address(update)}
        for name in fresh & self._asked:
            if self.on_moved:
                self.on_moved(name)

    async def _renew(self) -> None:
        """Make what is announced what is wanted."""
        zeroconf = await self._running()
        if zeroconf is None or self._library is None:
            return
        async with self._renewing:
            wanted, told = self._wanted, self._told
            if told is not None and told[0] != wanted:
                self._told = None
                await (await zeroconf.async_unregister_service(told[1]))
            if wanted is None or self._told is not None:
                return
            info = self._library.info(wanted, wanted.addresses or self._interfaces)
            try:
                await (await zeroconf.async_register_service(info, allow_name_change=True))
            except Exception as error:  # whatever the network says to it
                log.warning("This gateway could not be announced on the local network: %s", error)
                return
            self._told = wanted, info
            log.info("Announced on the local network: %s", info.name.removesuffix("."))

    def _notify(self) -> None:
        if self.on_services and not self._stopped:
            self.on_services()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("mDNS: %s: %s", type(error).__name__, error)


def is_address(update: "RecordUpdate") -> bool:
    """Whether a record is of type A or AAAA."""
    return update.new.type in (1, 28)


def _reachable(address: str) -> bool:
    """Addresses that only count on one interface need its name beside them: not told, so not usable."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (number.is_multicast or number.is_unspecified or (number.version == 6 and number.is_link_local))


def _library() -> "Library":
    from penstock.control.discovery import mdns_zeroconf  # noqa: PLC0415  # lazy: zeroconf, only when the network is asked

    return mdns_zeroconf.Library()
