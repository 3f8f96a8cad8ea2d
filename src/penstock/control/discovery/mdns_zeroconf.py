"""What is asked of the zeroconf package; imported when the network is first asked for something."""

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

Changed = Callable[[Zeroconf, str, str, ServiceStateChange], None]


class _Listener(RecordUpdateListener):
    def __init__(self, tell: Callable[[list[RecordUpdate]], None]) -> None:
        self._tell = tell

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        self._tell(records)

    def async_update_records_complete(self) -> None:
        """Each update is judged alone."""


class Library:
    """zeroconf, in this project's words. Nothing is kept here."""

    def open(self, interfaces: Sequence[str]) -> AsyncZeroconf:
        """Open the sockets. Raises OSError where there is no multicast."""
        return AsyncZeroconf(interfaces=list(interfaces) or InterfaceChoice.All, ip_version=IPVersion.V4Only)

    def listen(self, zeroconf: Zeroconf, tell: Callable[[list[RecordUpdate]], None]) -> None:
        """Be told of every record that comes."""
        zeroconf.async_add_listener(_Listener(tell), None)

    async def resolve(self, zeroconf: Zeroconf, name: str, fresh: bool, patience: float) -> tuple[str, ...]:
        """The addresses of a name, IPv4 first, the newest first; from what has been heard unless it is to be fresh."""
        if fresh:
            zeroconf.cache.async_remove_records(tuple(zeroconf.cache.entries_with_name(f"{name}.")))
        resolver = AddressResolver(f"{name}.")
        await resolver.async_request(zeroconf, patience * 1000)
        return tuple(resolver.parsed_addresses())

    def browse(self, zeroconf: Zeroconf, type_: str, changed: Changed) -> AsyncServiceBrowser:
        """Tell of services that come, change and go."""
        return AsyncServiceBrowser(zeroconf, [f"{type_}.local."], handlers=[changed])

    async def describe(self, zeroconf: Zeroconf, type_: str, name: str, patience: float) -> Service | None:
        """Where a service is; None when it does not say so in time."""
        full = f"{type_}.local."
        info = AsyncServiceInfo(full, name)
        if not await info.async_request(zeroconf, patience * 1000) or not info.port or not info.server:
            return None
        said = {key: value for key, value in info.decoded_properties.items() if value is not None}
        return Service(
            name=name.removesuffix(f".{full}"),
            host=info.server.lower().rstrip("."),
            port=info.port,
            addresses=tuple(info.parsed_addresses()),
            properties=MappingProxyType(said),
        )

    def info(self, announcement: Announcement, addresses: Sequence[str]) -> AsyncServiceInfo:
        """An announcement in the library's form, by default with this machine's own addresses.

        The host has a name of its own: what the operating system tells of this machine's name is left alone.
        """
        full = f"{announcement.type}.local."
        return AsyncServiceInfo(
            full,
            f"{announcement.name}.{full}",
            port=announcement.port,
            properties=dict(announcement.properties),
            server=f"{socket.gethostname().partition('.')[0] or 'gateway'}-penstock.local.",
            parsed_addresses=list(addresses) or _own_addresses(),
        )


def _own_addresses() -> list[str]:
    """The addresses under which others may reach this machine: those that lead out of it."""
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # nothing is sent: connecting only chooses a way
            try:
                probe.connect((somewhere, 9))
                found.append(probe.getsockname()[0])
            except OSError:
                continue
    return found
