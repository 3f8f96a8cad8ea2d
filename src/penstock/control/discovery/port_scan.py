"""Scans the address ranges listed in the settings, and only those, for open ports."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

MAX_PARALLEL = 64
"""Connection attempts at a time."""

CONNECT_TIMEOUT = 0.5
"""Seconds for a connection: in a local network a server answers in a few milliseconds."""

MIN_PREFIX_LENGTH = 22
"""The largest range that is scanned: 1,022 addresses, about eight seconds."""

TryConnect: TypeAlias = Callable[[str, int], Awaitable[bool]]
"""Returns True if a port of a host accepts connections. Never raises."""


def list_hosts(subnets: Iterable[str]) -> tuple[str, ...]:
    """Return the host addresses of private IPv4 ranges (CIDR), each once; skip public ranges and too large ones."""
    hosts: dict[str, None] = {}
    for subnet in subnets:
        try:
            network = ipaddress.IPv4Network(subnet, strict=False)
        except ValueError:
            continue
        if network.is_private and network.prefixlen >= MIN_PREFIX_LENGTH:
            hosts.update((str(address), None) for address in network.hosts())
    return tuple(hosts)


async def scan_hosts(
    hosts: Iterable[str], port: int, connect: TryConnect, parallel: int = MAX_PARALLEL
) -> tuple[str, ...]:
    """Return those of the hosts, in their order, that accept connections at `port`."""
    hosts = tuple(hosts)
    semaphore = asyncio.Semaphore(parallel)

    async def scan_host(host: str) -> bool:
        async with semaphore:
            return await connect(host, port)

    results = await asyncio.gather(*(scan_host(host) for host in hosts))
    return tuple(host for host, is_open in zip(hosts, results, strict=True) if is_open)


async def try_connect(host: str, port: int) -> bool:
    """Return True if a connection can be opened; close it without sending anything."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
            writer.transport.abort()
            return True
    return False
