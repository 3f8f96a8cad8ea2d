"""Which servers of the network are new: pure, from what was heard to what is to be watched."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.control.discovery.dns_sd import Service
from penstock.control.discovery.name_resolution import Place, touches
from penstock.domain.fleet import Priority, Server

MOST = 256
"""Servers watched that nobody configured."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somewhere a server may be: what to call it, its address, and the places to which that leads."""

    name: str
    url: str
    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway of the local network. It is shown and not used, so that no call can go round in a circle."""

    name: str
    url: str
    version: str = ""


def announced(service: Service, places: frozenset[Place]) -> Candidate:
    """A service that announces itself, under its own name; its host's name is kept, so that it may move."""
    return Candidate(fit_name(service.name, service.host), f"http://{bracketed(service.host)}:{service.port}", places)


def choose(
    candidates: Iterable[Candidate], taken: frozenset[Place], names: Iterable[str], before: Iterable[Server] = ()
) -> tuple[Server, ...]:
    """The candidates that lead to a place of their own, as servers nobody configured, each with a name of its own.

    `taken` are the places of servers that are known already and of gateways, `names` the names in use. A candidate that
    was chosen `before` keeps its name and goes before others that lead to the same place.
    """
    earlier = {server.url: server.name for server in before}
    used = set(names)
    kept = {name for name in earlier.values() if name not in used}
    chosen: list[Server] = []
    for candidate in sorted(candidates, key=lambda one: one.url not in earlier):
        if not candidate.places or touches(candidate.places, taken) or len(chosen) >= MOST:
            continue
        taken |= candidate.places
        name = earlier.get(candidate.url, "")
        if name not in kept:
            name = _free(candidate.name, used | kept)
        used.add(name)
        chosen.append(Server(name, "ollama", (candidate.url,), Priority.SECONDARY, configured=False))
    return tuple(chosen)


def fit_name(*wishes: str) -> str:
    """The first wish that leaves something when only what a server's name may have is kept."""
    for wish in wishes:
        if name := _UNFIT.sub("-", wish).strip("._-")[:56]:
            return name
    return "found"


def bracketed(host: str) -> str:
    """A host as URLs have it."""
    return f"[{host}]" if ":" in host else host


def _free(name: str, used: set[str]) -> str:
    names = (name if count == 1 else f"{name}-{count}" for count in range(1, len(used) + 2))
    return next(one for one in names if one not in used)
