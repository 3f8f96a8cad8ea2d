"""What a local network's members tell of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Service:
    """A service that announces itself. `host` is a lower-case name without the final dot, as are names everywhere."""

    name: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What we tell of ourselves: an instance's name of a service type such as `_penstock._tcp`, and its port.

    `addresses` are those it listens on; none: all that lead out of this machine.
    """

    type: str
    name: str
    port: int
    addresses: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
