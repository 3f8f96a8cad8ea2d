"""Resolves the host names of URLs: `.local` names by multicast DNS, all others by the operating system."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

SYSTEM_TIMEOUT = 2.0
"""Seconds that the operating system may take to resolve a name."""

ResolvedAddress: TypeAlias = tuple[str, int]
"""An IP address, or `localhost` for any of this machine's own, and a port: equal for two names of one server."""


class UrlResolver(Protocol):
    """Resolves the names that the operating system may not know."""

    async def resolve_url(self, url: str, fresh: bool) -> tuple[str, ...]:
        """Return the URL with IP addresses in place of the name, the likeliest first; empty: use it unchanged.

        `fresh`: do not use cached results. Never raises.
        """


class SystemResolver:
    """Leaves all names to the operating system."""

    async def resolve_url(self, url: str, fresh: bool) -> tuple[str, ...]:
        """Return nothing: the URL is used unchanged."""
        return ()


class MdnsLookup(Protocol):
    """Looks up `.local` names on the local network."""

    async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        """Return the IP addresses of a `.local` name, the newest first; empty if nobody answers."""


class MdnsResolver:
    """Resolves `.local` names by multicast DNS.

    URLs with https are left to the operating system: their certificates are for the name, not for an address.
    """

    def __init__(self, mdns: MdnsLookup) -> None:
        self._mdns = mdns

    async def resolve_url(self, url: str, fresh: bool) -> tuple[str, ...]:
        """Return the URL once for each address of its `.local` name; empty for other names."""
        host = get_host(url)
        if not is_mdns_name(host) or url.startswith("https:"):
            return ()
        return tuple(replace_host(url, address) for address in await self._mdns.resolve_host(host, fresh))

    async def resolve_addresses(self, url: str) -> frozenset[ResolvedAddress]:
        """Return the addresses to which a URL leads. Never raises."""
        host, port = get_host(url), get_port(url)
        with contextlib.suppress(ValueError):
            return frozenset({normalize_address(str(ipaddress.ip_address(host)), port)})
        addresses = await self._mdns.resolve_host(host) if is_mdns_name(host) else ()
        return frozenset(normalize_address(address, port) for address in addresses or await _resolve_by_system(host))


def is_mdns_name(host: str) -> bool:
    """Return True if a name belongs to the local network (RFC 6762)."""
    return host.endswith(".local")


def get_host(url: str) -> str:
    """Return the host of a URL in lower case, without brackets and final dot."""
    return (urlsplit(url).hostname or "").rstrip(".")


def get_port(url: str) -> int:
    """Return the port of a URL, or the default port of its scheme."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def replace_host(url: str, host: str) -> str:
    """Return the URL with another host, which may be an IPv6 address."""
    parts = urlsplit(url)
    url_host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{url_host}{port}{parts.path}"


def normalize_address(address: str, port: int) -> ResolvedAddress:
    """Return IP address and port; all addresses of this machine become `localhost`."""
    return ("localhost" if is_own_address(address) else address, port)


def is_own_address(text: str) -> bool:
    """Return True if an IP address is this machine's: only such an address can be bound."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))
    except OSError:
        return False
    return True


def overlaps(first: Iterable[ResolvedAddress], second: Iterable[ResolvedAddress]) -> bool:
    """Return True if two sets of addresses have one in common."""
    return not frozenset(first).isdisjoint(second)


async def _resolve_by_system(host: str) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SYSTEM_TIMEOUT):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
