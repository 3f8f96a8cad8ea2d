"""The considerations that routing weighs. Loads every sibling that has a `SIGNAL`; nobody names one."""

import importlib
import pkgutil

from penstock.gateway.routing.signals.base import Signal


def load() -> tuple[Signal, ...]:
    """All signals, the weightiest first; raises ValueError when two have the same name."""
    found: dict[str, Signal] = {}
    for info in pkgutil.iter_modules(__path__):
        signal = getattr(importlib.import_module(f"{__name__}.{info.name}"), "SIGNAL", None)
        if not isinstance(signal, Signal):
            continue
        if signal.name in found:
            raise ValueError(f"two routing signals are called {signal.name}")
        found[signal.name] = signal
    return tuple(sorted(found.values(), key=lambda signal: -signal.weight))
