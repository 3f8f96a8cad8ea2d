"""Kinds of model server. `load` finds them; no other module names one."""

import importlib
import pkgutil
from typing import cast

from penstock.engines.base import Engine


def load() -> dict[str, Engine]:
    """Load the `ENGINE` of each module in this package, of a subpackage that of its `engine.py`; return them by kind.

    Raises ValueError when two engines have the same kind.
    """
    engines: dict[str, Engine] = {}
    for info in pkgutil.iter_modules(__path__):
        module = f"{__name__}.{info.name}.engine" if info.ispkg else f"{__name__}.{info.name}"
        engine = cast("Engine | None", getattr(importlib.import_module(module), "ENGINE", None))
        if engine is None:
            continue  # base classes and functions that engines share
        if engine.kind in engines:
            raise ValueError(f"Two engines have the kind {engine.kind}; rename one of them.")
        engines[engine.kind] = engine
    return engines
