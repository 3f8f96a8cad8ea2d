"""What addresses with a name stand for in numbers: `.local` names are asked of the network, others of the system."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

SYSTEM_PATIENCE = 2.0
"""Seconds that the operating system may take to resolve a name."""

Place: TypeAlias = tuple[str, int]
"""An address in numbers, `localhost` for this machine's own, and a port: equal for two ways to one server."""


class Names(Protocol):
    """Resolves the names that the operating system may not know."""

    async def numbered(self, url: str, fresh: bool) -> tuple[str, ...]:
        """The same address with numbers in the place of its name, the likeliest first; empty: it is best as it is.

        `fresh`: ask again, though the name is known. Never raises.
        """


class NumbersAsWritten:
    """No names but those that the operating system knows."""

    async def numbered(self, url: str, fresh: bool) -> tuple[str, ...]:
        """Nothing is known."""
        return ()


class LocalNames(Protocol):
    """Asks the local network for names."""

    async def addresses(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        """The addresses of a `.local` name, the newest first; empty when nobody answers to it."""


class NamesByMdns:
    """Resolves `.local` names by multicast DNS.

    Addresses with https are left to the system: their certificates are for the name, not for numbers.
    """

    def __init__(self, local: LocalNames) -> None:
        self._local = local

    async def numbered(self, url: str, fresh: bool) -> tuple[str, ...]:
        """As the protocol says."""
        host = host_of(url)
        if not is_local(host) or url.startswith("https:"):
            return ()
        return tuple(with_host(url, address) for address in await self._local.addresses(host, fresh))

    async def places(self, url: str) -> frozenset[Place]:
        """Where an address leads, by the network for `.local` names and by the operating system; never raises."""
        host, port = host_of(url), port_of(url)
        with contextlib.suppress(ValueError):
            return frozenset({place(str(ipaddress.ip_address(host)), port)})
        numbers = await self._local.addresses(host) if is_local(host) else ()
        return frozenset(place(number, port) for number in numbers or await _by_system(host))


def is_local(host: str) -> bool:
    """Whether a name belongs to the local network, by RFC 6762."""
    return host.endswith(".local")


def host_of(url: str) -> str:
    """The host of a URL: lower case, without brackets and final dot."""
    return (urlsplit(url).hostname or "").rstrip(".")


def port_of(url: str) -> int:
    """The port of a URL, its scheme's own when it has none."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def with_host(url: str, host: str) -> str:
    """The same URL at another host; `host` may be IPv6."""
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{shown}{port}{parts.path}"


def place(number: str, port: int) -> Place:
    """An address in numbers and a port, this machine's own addresses made one."""
    return ("localhost" if is_own(number) else number, port)


def is_own(number: str) -> bool:
    """Whether an address is this machine's: only then can it be bound."""
    address = ipaddress.ip_address(number.partition("%")[0])
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((number, 0))
    except OSError:
        return False
    return True


def touches(places: Iterable[Place], taken: Iterable[Place]) -> bool:
    """Whether two sets of places have one in common."""
    return not frozenset(places).isdisjoint(taken)


async def _by_system(host: str) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SYSTEM_PATIENCE):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(str(address[4][0]).partition("%")[0] for address in found))
