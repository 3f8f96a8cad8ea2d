"""Adapter of the zeroconf package; imported when mDNS is first used."""

import socket
from collections.abc import Callable, Sequence
from types import MappingProxyType

from zeroconf import (  # type: ignore[attr-defined]  # the first is public, but not in its __all__
    AddressResolver,
    InterfaceChoice,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from penstock.control.discovery.dns_sd import Announcement, Service

ServiceChangeHandler = Callable[[Zeroconf, str, str, ServiceStateChange], None]


class _Listener(RecordUpdateListener):
    """Calls `on_records` with every batch of records."""

    def __init__(self, on_records: Callable[[list[RecordUpdate]], None]) -> None:
        self._on_records = on_records

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        self._on_records(records)

    def async_update_records_complete(self) -> None:
        """Do nothing: each batch has been handled alone."""


class ZeroconfLibrary:
    """The functions of zeroconf that this project uses. Stateless."""

    def open_sockets(self, interfaces: Sequence[str]) -> AsyncZeroconf:
        """Open the sockets. Raises OSError where there is no multicast."""
        return AsyncZeroconf(interfaces=list(interfaces) or InterfaceChoice.All, ip_version=IPVersion.V4Only)

    def add_listener(self, zeroconf: Zeroconf, on_records: Callable[[list[RecordUpdate]], None]) -> None:
        """Call `on_records` with all records that arrive."""
        zeroconf.async_add_listener(_Listener(on_records), None)

    async def resolve_host(self, zeroconf: Zeroconf, name: str, fresh: bool, max_seconds: float) -> tuple[str, ...]:
        """Return the addresses of a name: IPv4 first, the newest first. `fresh`: do not use cached records."""
        if fresh:
            zeroconf.cache.async_remove_records(tuple(zeroconf.cache.entries_with_name(f"{name}.")))
        resolver = AddressResolver(f"{name}.")
        await resolver.async_request(zeroconf, max_seconds * 1000)
        return tuple(resolver.parsed_addresses())

    def create_browser(self, zeroconf: Zeroconf, type_: str, on_change: ServiceChangeHandler) -> AsyncServiceBrowser:
        """Call `on_change` when services of a type appear, change and disappear."""
        return AsyncServiceBrowser(zeroconf, [f"{type_}.local."], handlers=[on_change])

    async def fetch_service(self, zeroconf: Zeroconf, type_: str, name: str, max_seconds: float) -> Service | None:
        """Return the description of a service, or None if it does not answer in time."""
        full = f"{type_}.local."
        info = AsyncServiceInfo(full, name)
        if not await info.async_request(zeroconf, max_seconds * 1000) or not info.port or not info.server:
            return None
        properties = {key: value for key, value in info.decoded_properties.items() if value is not None}
        return Service(
            name=name.removesuffix(f".{full}"),
            host=info.server.lower().rstrip("."),
            port=info.port,
            addresses=tuple(info.parsed_addresses()),
            properties=MappingProxyType(properties),
        )

    def build_service_info(self, announcement: Announcement, addresses: Sequence[str]) -> AsyncServiceInfo:
        """Convert an announcement; without addresses it gets those of this machine.

        Its host name differs from this machine's, so that it cannot conflict with the operating system's own records.
        """
        full = f"{announcement.type}.local."
        return AsyncServiceInfo(
            full,
            f"{announcement.name}.{full}",
            port=announcement.port,
            properties=dict(announcement.properties),
            server=f"{socket.gethostname().partition('.')[0] or 'gateway'}-penstock.local.",
            parsed_addresses=list(addresses) or _find_own_addresses(),
        )


def _find_own_addresses() -> list[str]:
    """Return the addresses under which others may reach this machine: those of its default routes."""
    addresses = []
    for family, destination in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # connecting sends nothing, it selects a route
            try:
                probe.connect((destination, 9))
                addresses.append(probe.getsockname()[0])
            except OSError:
                continue
    return addresses
