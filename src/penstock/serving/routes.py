"""The table of inference routes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from penstock.dialects.base import Dialect, Endpoint


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint and the dialect that renders its errors."""

    endpoint: Endpoint
    dialect: Dialect


RouteTable: TypeAlias = dict[tuple[bytes, bytes], Route]
"""Routes by method and exact path, as the HTTP parser gives them."""


def build_route_table(dialects: Iterable[Dialect]) -> RouteTable:
    """Return the routes of all endpoints of these dialects."""
    return {
        (endpoint.method.encode(), path.encode()): Route(endpoint, dialect)
        for dialect in dialects
        for endpoint in dialect.endpoints
        for path in endpoint.paths
    }
