"""The dialects that clients speak. Loads every sibling that has a `DIALECT`; nobody names one."""

import importlib
import pkgutil

from penstock.dialects.base import Dialect


def load() -> tuple[Dialect, ...]:
    """All dialects; raises ValueError when two claim the same name, wire, or method and path."""
    found: list[Dialect] = []
    claimed: dict[object, str] = {}
    for info in pkgutil.iter_modules(__path__):
        dialect = getattr(importlib.import_module(f"{__name__}.{info.name}"), "DIALECT", None)
        if not isinstance(dialect, Dialect):
            continue
        claims: list[object] = [dialect.name]
        for endpoint in dialect.endpoints:
            claims.append(("wire", endpoint.wire))
            claims.extend((endpoint.method, path) for path in endpoint.paths)
        for claim in claims:
            if claim in claimed:
                raise ValueError(f"dialects {claimed[claim]} and {info.name} both claim {claim}")
            claimed[claim] = info.name
        found.append(dialect)
    return tuple(found)
