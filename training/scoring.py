"""Figures of merit, and the table that they are printed in."""

from typing import Any

import numpy as np

from penstock.gateway.routing.complexity.classifier import ERROR_COSTS

HEAD = f"{'':22}     n   acc    F1  triv simp  mod comp  c>small low>large low>mod+  type"


def decide(scores: Any, under_cost: float) -> Any:
    """Levels of least expected cost, as `level_of` finds them; ties excepted."""
    costs = np.array(
        [
            [
                under_cost * ERROR_COSTS[true - level] if true > level else ERROR_COSTS[level - true]
                for level in range(4)
            ]
            for true in range(4)
        ]
    )
    return (scores @ costs).argmin(1)


def f1(true: Any, guess: Any, level: int) -> float:
    both = int(((true == level) & (guess == level)).sum())
    return 2 * both / max(1, int((true == level).sum() + (guess == level).sum()))


def line(name: str, true: Any, guess: Any, types: Any | None = None, guessed_types: Any | None = None) -> str:
    each = [f1(true, guess, level) for level in range(4)]
    hard, low = guess[true == 3], guess[true <= 1]
    type_accuracy = f"{np.mean(types == guessed_types):5.3f}" if types is not None else ""
    levels = " ".join(f"{one:4.2f}" for one in each)
    errors = f"{_share(hard <= 1):7.3f} {_share(low == 3):9.3f} {_share(low >= 2):8.3f}"
    means = f"{np.mean(true == guess):5.3f} {np.mean(each):5.3f}"
    return f"{name:22} {len(true):5} {means}  {levels}  {errors} {type_accuracy}"


def _share(found: Any) -> float:
    return float(np.mean(found)) if len(found) else 0.0
