"""Addresses of model servers: parsing of what people write into one normal form."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from penstock.domain.server_kind import KindDefaults

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Address of a server. `host` is lower case, IPv6 without brackets; `prefix` is empty or ``/path``."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    credentials: str | None = field(default=None, repr=False)
    """``user:password``, decoded."""

    @property
    def url(self) -> str:
        """The address without credentials; the port is left out where it is the default of https."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.scheme == "https" and self.port == 443 else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @property
    def identity(self) -> tuple[str, int, str]:
        """Host, port and prefix; equal for two spellings of one address, as all names of this machine are."""
        host = self.host.rstrip(".")
        return ("localhost" if host in _LOOPBACK else host, self.port, self.prefix)


def parse_address(
    text: str, *, bare_port: int, http_port: int = 80, api_paths: tuple[str, ...] = ("/v1",)
) -> ServerAddress:
    """Parse an address; the scheme may be missing (http) and so may the port.

    `bare_port` is the port where neither scheme nor port is given, `http_port` the one after ``http://``. `api_paths`
    at the end of the address are removed. Raises ValueError that says what to write and never repeats credentials.
    """
    text = text.strip()
    if not text:
        raise ValueError("is empty; write an address such as http://localhost:11434")
    if _FORBIDDEN.search(text):
        raise ValueError("must not contain spaces or control characters")
    scheme, rest = _split_scheme(text)
    default_port = {"": bare_port, "http": http_port, "https": 443}[scheme]
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        raise ValueError("is not an address: the port must be at most 65535, and IPv6 goes in [brackets]") from None
    userinfo, at, authority = parts.netloc.rpartition("@")
    if parts.query or parts.fragment or "?" in rest or "#" in rest:
        raise ValueError("must not have a query (?…) or a fragment (#…)")
    if authority.endswith(":") or port == 0:
        raise ValueError("needs a port from 1 to 65535 after the colon")
    return ServerAddress(
        scheme=scheme or "http",
        host=_normalize_host(parts.hostname or ""),
        port=default_port if port is None else port,
        prefix=_normalize_prefix(parts.path, api_paths),
        credentials=unquote(userinfo) if at and userinfo else None,
    )


def parse_server_address(defaults: KindDefaults, text: str) -> ServerAddress:
    """Parse the address of a server of a kind with these defaults; raise ValueError as `parse_address` does."""
    return parse_address(text, bare_port=defaults.port, http_port=defaults.http_port, api_paths=defaults.api_paths)


def mask_credentials(text: str) -> str:
    """Replace all before the last @ but the scheme, whether or not the text is a valid URL."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1***@", text, flags=re.IGNORECASE | re.DOTALL)


def is_loopback(host: str) -> bool:
    """Return True when a listener on this host can be reached from this machine only."""
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _split_scheme(text: str) -> tuple[str, str]:
    if match := _SCHEME.match(text):
        scheme = match[1].lower()
        if scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or https://")
        return scheme, text[match.end() :]
    if re.match(r"(https?:)?/", text, re.IGNORECASE):
        raise ValueError("must begin with http:// or https://")
    try:
        return "", f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return "", text


def _normalize_host(host: str) -> str:
    if not host:
        raise ValueError("has no host; write an address such as http://localhost:11434")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host.replace("%25", "%")))
        except ValueError:
            raise ValueError(f"has the host {host}, which is not an IPv6 address") from None
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"has the host {host}, which is not a valid name") from None
    labels = name.lower().removesuffix(".").split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"has the host {host}, which is not a valid name")
    if labels[-1].isdigit():
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError(f"has the host {host}, which is not an IPv4 address") from None
    return name.lower()


def _normalize_prefix(path: str, endings: tuple[str, ...]) -> str:
    path = quote(path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
    while path.endswith(endings):
        path = path[: path.rindex("/")].rstrip("/")
    return path
