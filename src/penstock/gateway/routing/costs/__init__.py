"""The considerations that routing weighs. Loads every sibling that has a `SIGNAL`; nobody names one."""

import importlib
import pkgutil

from penstock.gateway.routing.costs.base import Signal


def load() -> tuple[Signal, ...]:
    """All signals in the order of their names; raises ValueError when two have the same."""
    found: dict[str, Signal] = {}
    for info in pkgutil.iter_modules(__path__):
        signal = getattr(importlib.import_module(f"{__name__}.{info.name}"), "SIGNAL", None)
        if not isinstance(signal, Signal):
            continue
        if signal.name in found:
            raise ValueError(f"two routing signals are called {signal.name}")
        found[signal.name] = signal
    return tuple(found[name] for name in sorted(found))
