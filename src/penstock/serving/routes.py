"""The table of inference routes, and which requests are let in at all."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.dialects.base import Dialect, Endpoint
from penstock.domain.errors import Forbidden, PenstockError


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint with the dialect that draws its errors."""

    endpoint: Endpoint
    dialect: Dialect


def table(dialects: Iterable[Dialect]) -> dict[tuple[bytes, bytes], Route]:
    """Routes by method and exact path, as the parser gives them."""
    return {
        (endpoint.method.encode(), path.encode()): Route(endpoint, dialect)
        for dialect in dialects
        for endpoint in dialect.endpoints
        for path in endpoint.paths
    }


@dataclass(slots=True)
class Gate:
    """Which Host names and Origins may come in. Guards a gateway on loopback against pages that rebind their name.

    Hosts: addresses, `localhost`, names of this machine, and those listed. Origins: this gateway's own pages, pages on
    loopback, and those listed; `*` lets every origin in.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    known: dict[bytes | None, bool] = field(default_factory=dict)
    """Hosts already judged, so that a request on the hot path needs one look."""

    def host_allowed(self, value: bytes) -> bool:
        """Whether a request for this Host is for us."""
        known = self.known.get(value)
        if known is None:
            if len(self.known) >= 1024:
                self.known.clear()
            known = self.known[value] = self._host_allowed(_name(value.decode("latin-1")))
        return known

    def _host_allowed(self, name: str) -> bool:
        if "*" in self.hosts or name in self.hosts or name in ("localhost", socket.gethostname().lower()):
            return True
        if name.endswith((".localhost", ".local", ".internal")):
            return True
        return _is_address(name)

    def origin_allowed(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this origin may use the gateway."""
        text = origin.decode("latin-1").lower()
        if "*" in self.origins or text in self.origins:
            return True
        _, separator, authority = text.partition("://")
        if not separator:
            return False
        name = _name(authority)
        if authority == host.decode("latin-1").lower() or name == "localhost" or name.endswith(".localhost"):
            return True
        return _is_address(name) and ipaddress.ip_address(name).is_loopback

    def check(self, host: bytes | None, origin: bytes | None) -> PenstockError | None:
        """The refusal, or None to go on."""
        if host is not None and not self.host_allowed(host):
            shown = host.decode("latin-1", "replace")[:100]
            return Forbidden(f"this gateway does not answer for host {shown!r}; list it in server.allowed_hosts")
        if origin is not None and not self.origin_allowed(origin, host or b""):
            shown = origin.decode("latin-1", "replace")[:100]
            return Forbidden(f"pages of {shown} may not use this gateway; list the origin in server.cors_origins")
        return None


def _name(authority: str) -> str:
    """The host of an authority, without port and brackets, in lower case."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        name, bracket, port = authority[1:].partition("]")
        return name if bracket and port[:1] in ("", ":") else authority
    return authority.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
