"""Simulated kinds of server, one module each, loaded from this folder."""

import importlib
import pkgutil

from penstock.sim.kind import Kind


def _load_kinds() -> dict[str, type[Kind]]:
    kinds: dict[str, type[Kind]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        kind: type[Kind] = importlib.import_module(module.name).KIND
        if kind.name in kinds:
            raise ImportError(
                f"two simulated kinds are called {kind.name}: {kinds[kind.name].__module__} and {module.name}"
            )
        kinds[kind.name] = kind
    return kinds


KINDS = _load_kinds()
