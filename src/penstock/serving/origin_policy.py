"""Accepts or rejects requests by their Host and Origin headers."""

import functools
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.domain.errors import Forbidden, PenstockError

MAX_CACHED_HOSTS = 1024
"""Host headers whose decision is cached."""
APP_ORIGINS = ("app://*", "file://*", "tauri://*", "vscode-file://*", "vscode-webview://*")
"""Origins of desktop and editor apps, which Ollama accepts, too. No web page has such an origin."""

_AUTHORITY = re.compile(r"(\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(:[0-9]*)?")
_LOCAL_NAME = re.compile(r"(?!0x)[a-z0-9_-]*[a-z][a-z0-9_-]*")
_LOCAL_ENDINGS = (
    *(".localhost", ".local", ".internal", ".home.arpa", ".lan", ".home", ".localdomain", ".corp", ".intranet"),
)
"""Endings that the public DNS does not have."""


@dataclass(slots=True)
class OriginPolicy:
    """Allowed Host names and Origins, with `*` for any part. Protects the gateway from DNS rebinding.

    A page that rebinds its name has one that the public DNS knows, with a dot. So addresses, names without a dot (of
    services in a compose file, of machines), names of local networks and those listed are allowed hosts. Allowed
    origins: this gateway's own pages, pages on loopback, apps, and those listed; `*` alone allows every origin.
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

    def _is_name_allowed(self, name: str | None) -> bool:
        if "*" in self.hosts or name == "":
            return True
        if name is None:
            return False
        if _LOCAL_NAME.fullmatch(name) or name == socket.gethostname().lower() or name.endswith(_LOCAL_ENDINGS):
            return True
        return _is_address(name) or _matches_any(name, self.hosts)

    def is_origin_allowed(self, origin: bytes, host: bytes) -> bool:
        """Return True if a page of this origin may use the gateway, which it addresses as `host`."""
        text = origin.decode("latin-1").lower()
        if "*" in self.origins or _matches_any(text, self.origins) or _matches_any(text, APP_ORIGINS):
            return True
        _, separator, authority = text.partition("://")
        if not separator:
            return False
        name = _parse_host(authority)
        if not name:
            return False
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


def _parse_host(authority: str) -> str | None:
    """Return the host of an authority in lower case, without port and brackets; None if it is malformed."""
    match = _AUTHORITY.fullmatch(authority.strip().lower())
    if match is None:
        return None
    return match["name"] if match["ipv6"] is None else match["ipv6"]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _matches_any(text: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns matches; `*` in a pattern stands for any characters but a slash."""
    return any(pattern == text or ("*" in pattern and _compile(pattern).fullmatch(text)) for pattern in patterns)


@functools.cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
