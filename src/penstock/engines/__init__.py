"""The kinds of model server. Loads every sibling that has an `ENGINE`; nobody names one."""

import importlib
import pkgutil
from typing import cast

from penstock.engines.base import Engine


def load() -> dict[str, Engine]:
    """All engines by kind; raises ValueError when two claim the same kind."""
    found: dict[str, Engine] = {}
    for info in pkgutil.iter_modules(__path__):
        engine = cast("Engine | None", getattr(importlib.import_module(f"{__name__}.{info.name}"), "ENGINE", None))
        if engine is None:
            continue
        if engine.kind in found:
            raise ValueError(f"two engines claim the kind {engine.kind}")
        found[engine.kind] = engine
    return found
