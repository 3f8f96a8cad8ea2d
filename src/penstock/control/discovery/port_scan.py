"""Looks through the address ranges that the settings tell, and only those, for something that listens."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

PARALLEL = 64
"""Connections being tried at a time."""

PATIENCE = 0.5
"""Seconds for a connection: in one's own network a server answers in a few milliseconds."""

LARGEST = 22
"""The shortest prefix that is scanned: 1,022 addresses, about eight seconds."""

Knock: TypeAlias = Callable[[str, int], Awaitable[bool]]
"""Whether something listens at an address and port. Never raises."""


def addresses(subnets: Iterable[str]) -> tuple[str, ...]:
    """The addresses of hosts in private IPv4 ranges (CIDR), each once; what is public or too large is left out."""
    found: dict[str, None] = {}
    for subnet in subnets:
        try:
            network = ipaddress.IPv4Network(subnet, strict=False)
        except ValueError:
            continue
        if network.is_private and network.prefixlen >= LARGEST:
            found.update((str(address), None) for address in network.hosts())
    return tuple(found)


async def scan(hosts: Iterable[str], port: int, knock: Knock, parallel: int = PARALLEL) -> tuple[str, ...]:
    """Those of the hosts where something listens, in their order."""
    hosts = tuple(hosts)
    gate = asyncio.Semaphore(parallel)

    async def one(host: str) -> bool:
        async with gate:
            return await knock(host, port)

    open_ = await asyncio.gather(*(one(host) for host in hosts))
    return tuple(host for host, listens in zip(hosts, open_, strict=True) if listens)


async def knock(host: str, port: int) -> bool:
    """Connect and say nothing."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
            writer.transport.abort()
            return True
    return False
