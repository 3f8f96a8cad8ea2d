"""Metrics of the classifier and the table that shows them."""

from typing import Any

import numpy as np

from penstock.gateway.routing.complexity.classifier import ERROR_COSTS

HEAD = f"{'':22}     n   acc    F1  triv simp  mod comp  c>small low>large low>mod+  type"


def choose_levels(scores: Any, under_cost: float) -> Any:
    """Return the levels of least expected cost, like the classifier does except for ties."""
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


def f1_score(true: Any, guess: Any, level: int) -> float:
    """Return the F1 score of one level."""
    both = int(((true == level) & (guess == level)).sum())
    return 2 * both / max(1, int((true == level).sum() + (guess == level).sum()))


def format_line(name: str, true: Any, guess: Any, types: Any | None = None, guessed_types: Any | None = None) -> str:
    """Format one row of the table."""
    scores = [f1_score(true, guess, level) for level in range(4)]
    hard, low = guess[true == 3], guess[true <= 1]
    type_accuracy = f"{np.mean(types == guessed_types):5.3f}" if types is not None else ""
    levels = " ".join(f"{score:4.2f}" for score in scores)
    errors = f"{_compute_share(hard <= 1):7.3f} {_compute_share(low == 3):9.3f} {_compute_share(low >= 2):8.3f}"
    means = f"{np.mean(true == guess):5.3f} {np.mean(scores):5.3f}"
    return f"{name:22} {len(true):5} {means}  {levels}  {errors} {type_accuracy}"


def _compute_share(matches: Any) -> float:
    return float(np.mean(matches)) if len(matches) else 0.0
