"""Accepts or rejects requests by their Host and Origin headers."""

import ipaddress
import socket
from dataclasses import dataclass, field

from penstock.domain.errors import Forbidden, PenstockError

MAX_CACHED_HOSTS = 1024
"""Host headers whose decision is cached."""


@dataclass(slots=True)
class OriginPolicy:
    """Allowed Host names and Origins. Protects a gateway on a loopback address from DNS rebinding.

    Allowed hosts: addresses, `localhost`, names of this machine, and those listed. Allowed origins: this gateway's own
    pages, pages on loopback, and those listed; `*` allows every origin.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    host_decisions: dict[bytes | None, bool] = field(default_factory=dict)
    """Cached decisions by Host header, so that a request on the hot path needs one dictionary lookup."""

    def is_host_allowed(self, host: bytes) -> bool:
        """Return True if a request with this Host header may be served."""
        allowed = self.host_decisions.get(host)
        if allowed is None:
            if len(self.host_decisions) >= MAX_CACHED_HOSTS:
                self.host_decisions.clear()
            allowed = self.host_decisions[host] = self._is_name_allowed(_parse_host(host.decode("latin-1")))
        return allowed

    def _is_name_allowed(self, name: str) -> bool:
        if "*" in self.hosts or name in self.hosts or name in ("localhost", socket.gethostname().lower()):
            return True
        if name.endswith((".localhost", ".local", ".internal")):
            return True
        return _is_address(name)

    def is_origin_allowed(self, origin: bytes, host: bytes) -> bool:
        """Return True if a page of this origin may use the gateway, which it addresses as `host`."""
        text = origin.decode("latin-1").lower()
        if "*" in self.origins or text in self.origins:
            return True
        _, separator, authority = text.partition("://")
        if not separator:
            return False
        name = _parse_host(authority)
        if authority == host.decode("latin-1").lower() or name == "localhost" or name.endswith(".localhost"):
            return True
        return _is_address(name) and ipaddress.ip_address(name).is_loopback

    def check_request(self, host: bytes | None, origin: bytes | None) -> PenstockError | None:
        """Return the error to answer with, or None if the request is allowed."""
        if host is not None and not self.is_host_allowed(host):
            name = host.decode("latin-1")[:100]
            return Forbidden(f"This gateway does not serve host {name!r}; add it to server.allowed_hosts.")
        if origin is not None and not self.is_origin_allowed(origin, host or b""):
            page = origin.decode("latin-1")[:100]
            return Forbidden(f"Pages from {page} may not use this gateway; add the origin to server.cors_origins.")
        return None


def _parse_host(authority: str) -> str:
    """Return the host of an authority in lower case, without port and brackets."""
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
