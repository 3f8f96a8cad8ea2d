"""Costs that routing adds up for each candidate. Every sibling module that defines `COST` is loaded."""

import importlib
import pkgutil

from penstock.gateway.routing.costs.base import Cost


def load_costs() -> tuple[Cost, ...]:
    """Load all costs, sorted by name. Raises ValueError if two have the same name."""
    costs: dict[str, Cost] = {}
    for info in pkgutil.iter_modules(__path__):
        cost = getattr(importlib.import_module(f"{__name__}.{info.name}"), "COST", None)
        if not isinstance(cost, Cost):
            continue
        if cost.name in costs:
            raise ValueError(f"Two routing costs are called {cost.name}. Rename one of them.")
        costs[cost.name] = cost
    return tuple(costs[name] for name in sorted(costs))
