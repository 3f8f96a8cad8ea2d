"""The dialects that clients speak, found by folder: every module here with a `DIALECT` or `DIALECTS` is one."""

import importlib
import pkgutil
from types import ModuleType

from penstock.dialects.base import Dialect


def load() -> tuple[Dialect, ...]:
    """Return all dialects; raise ValueError when two claim the same name, wire, or method and path."""
    found: list[Dialect] = []
    claimed: dict[object, str] = {}
    for info in pkgutil.iter_modules(__path__):
        for dialect in _list_dialects(importlib.import_module(f"{__name__}.{info.name}")):
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


def _list_dialects(module: ModuleType) -> tuple[Dialect, ...]:
    dialect = getattr(module, "DIALECT", None)
    return (dialect,) if isinstance(dialect, Dialect) else getattr(module, "DIALECTS", ())
