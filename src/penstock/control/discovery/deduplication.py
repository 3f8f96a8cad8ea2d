"""Selects the new servers among those found on the network: one per address, each with a name of its own. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.control.discovery.dns_sd import Service
from penstock.control.discovery.name_resolution import ResolvedAddress, overlaps
from penstock.domain.fleet import Priority, Server

MAX_FOUND_SERVERS = 256
"""Servers that are watched although nobody configured them."""

MAX_NAME_LENGTH = 56
_INVALID_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A possible server on the network: its name, its URL, and the addresses to which the URL resolves."""

    name: str
    url: str
    addresses: frozenset[ResolvedAddress]


@dataclass(frozen=True, slots=True)
class OtherGateway:
    """Another gateway on the local network. It is listed but not used, so that no call can loop between gateways."""

    name: str
    url: str
    version: str = ""


def from_service(service: Service, addresses: frozenset[ResolvedAddress]) -> FoundServer:
    """Return a found server for an announced service. Its URL keeps the host name, so that it may change address."""
    url = f"http://{format_host(service.host)}:{service.port}"
    return FoundServer(make_server_name(service.name, service.host), url, addresses)


def select_new_servers(
    found: Iterable[FoundServer],
    known_addresses: frozenset[ResolvedAddress],
    used_names: Iterable[str],
    previous: Iterable[Server] = (),
) -> tuple[Server, ...]:
    """Return the found servers whose addresses are not taken, as unconfigured servers with unique names.

    `known_addresses` are those of configured servers and of gateways. A server that was selected in `previous` keeps
    its name and takes precedence over others with the same address.
    """
    previous_names = {server.url: server.name for server in previous}
    used = set(used_names)
    reserved = {name for name in previous_names.values() if name not in used}
    selected: list[Server] = []
    taken = known_addresses
    for server in sorted(found, key=lambda server: server.url not in previous_names):
        if not server.addresses or overlaps(server.addresses, taken) or len(selected) >= MAX_FOUND_SERVERS:
            continue
        taken |= server.addresses
        name = previous_names.get(server.url, "")
        if name not in reserved:
            name = _find_free_name(server.name, used | reserved)
        used.add(name)
        selected.append(Server(name, "ollama", (server.url,), Priority.SECONDARY, is_configured=False))
    return tuple(selected)


def make_server_name(*names: str) -> str:
    """Return the first of `names` that is not empty once the characters that a server name may not have are removed."""
    for name in names:
        if valid := _INVALID_CHARACTERS.sub("-", name).strip("._-")[:MAX_NAME_LENGTH]:
            return valid
    return "found"


def format_host(host: str) -> str:
    """Return a host as it is written in URLs: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _find_free_name(name: str, used: set[str]) -> str:
    names = (name if count == 1 else f"{name}-{count}" for count in range(1, len(used) + 2))
    return next(candidate for candidate in names if candidate not in used)
