"""Dialects that clients speak. Every module or package here with a `DIALECT` or `DIALECTS` is loaded."""

import importlib
import pkgutil
from types import ModuleType

from penstock.dialects.base import Dialect


def load() -> tuple[Dialect, ...]:
    """Return all dialects. Raises ValueError if two claim the same name, wire, or method and path."""
    dialects: list[Dialect] = []
    owners: dict[object, str] = {}
    for info in pkgutil.iter_modules(__path__):
        for dialect in _list_dialects(importlib.import_module(f"{__name__}.{info.name}")):
            claims: list[object] = [dialect.name]
            for endpoint in dialect.endpoints:
                claims.append(("wire", endpoint.wire))
                claims.extend((endpoint.method, path) for path in endpoint.paths)
            for claim in claims:
                if claim in owners:
                    raise ValueError(f"Dialects {owners[claim]} and {info.name} both claim {claim}.")
                owners[claim] = info.name
            dialects.append(dialect)
    return tuple(dialects)


def _list_dialects(module: ModuleType) -> tuple[Dialect, ...]:
    dialect = getattr(module, "DIALECT", None)
    return (dialect,) if isinstance(dialect, Dialect) else getattr(module, "DIALECTS", ())
