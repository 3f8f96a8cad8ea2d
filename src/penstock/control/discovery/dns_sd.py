"""Services of the local network, as DNS-SD (RFC 6763) describes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Service:
    """An announced service. `host` is a name in lower case without the final dot."""

    name: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)


@dataclass(frozen=True, slots=True)
class Announcement:
    """The gateway's own announcement: instance name, service type such as `_penstock._tcp`, and port.

    `addresses` are those it listens on; empty: all addresses that lead out of this machine.
    """

    type: str
    name: str
    port: int
    addresses: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
