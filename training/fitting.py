"""Feature matrices, logistic regression, and the weights that the package ships."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from penstock.gateway.routing.complexity.features import COUNT_SEPARATOR, Features, Lexicon
from penstock.gateway.routing.complexity.weights import MAX_STEP, Table, Weights, pack_weights

MAX_COUNT = 24
"""Counts in signs end here."""


@dataclass(frozen=True)
class Options:
    """Hyperparameters of the training.

    `word`, `sign` and `ask` scale kinds of features relative to the penalty; `balance` is the exponent of the class
    weights, `own` the weight of the project's own prompts; `rarest` is the least number of texts with a feature.
    `traffic` is added to the levels' outputs, because hard prompts are rarer in real traffic than in evaluation data.
    """

    penalty: float = 0.3
    word: float = 3.0
    sign: float = 0.5
    ask: float = 0.7
    rarest: int = 3
    balance: float = 1.0
    own: float = 1.0
    temperature: float = 1.0
    traffic: tuple[float, float, float, float] = (0.3, 0.0, -0.5, -1.4)


def find_scale(sign: str, options: Options) -> float:
    """Return the scale of a sign; signs of the request itself have their own."""
    return options.ask if sign.startswith(("^", "1 ", "$")) else options.sign


def expand_counts(signs: Iterable[str]) -> Iterator[str]:
    """Yield a sign with a count as one sign per number up to it, so that a linear model can be nonlinear in it."""
    for sign in signs:
        name, _, number = sign.partition(COUNT_SEPARATOR)
        if number.isdecimal():
            yield from (f"{name}{COUNT_SEPARATOR}{step}" for step in range(1, int(number) + 1))
        else:
            yield sign


class Matrix:
    """Columns of the features that occur in at least `rarest` training texts."""

    def __init__(self, features: Sequence[Features], options: Options) -> None:
        self._options = options
        words = Counter(word for one in features for word in one.words)
        signs = Counter(sign for one in features for sign in set(expand_counts(one.signs)))
        self.words = sorted(word for word, count in words.items() if count >= options.rarest)
        self.signs = sorted(sign for sign, count in signs.items() if count >= options.rarest)
        self._word_at = {word: column for column, word in enumerate(self.words)}
        self._sign_at = {sign: column + len(self.words) for column, sign in enumerate(self.signs)}

    def build(self, features: Sequence[Features]) -> Any:
        """Build the sparse matrix of texts, scaled like at run time."""
        rows, columns, values = [], [], []
        for row, one in enumerate(features):
            scale = self._options.word / max(1, len(one.words)) ** 0.5
            for word in one.words:
                column = self._word_at.get(word)
                if column is not None:
                    rows.append(row)
                    columns.append(column)
                    values.append(scale)
            for sign in expand_counts(one.signs):  # a repeated sign counts repeatedly, like at run time
                column = self._sign_at.get(sign)
                if column is not None:
                    rows.append(row)
                    columns.append(column)
                    values.append(find_scale(sign, self._options))
        shape = (len(features), len(self.words) + len(self.signs))
        return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def fit_coefficients(matrix: Any, targets: Any, weights: Any, options: Options, classes: int) -> Any:
    """Fit the coefficients: one row per class, the intercept last."""
    counts = np.bincount(targets, minlength=classes).clip(1)
    balanced = (len(targets) / classes / counts) ** options.balance
    model = LogisticRegression(C=options.penalty, max_iter=400, tol=1e-4)
    model.fit(matrix, targets, sample_weight=balanced[targets] * weights)
    full = np.zeros((classes, matrix.shape[1] + 1))
    full[model.classes_] = np.c_[model.coef_, model.intercept_]
    absent = [index for index in range(classes) if index not in model.classes_]
    full[absent, -1] = -20.0
    return full


def predict_probabilities(
    matrix: Any, full: Any, temperature: float = 1.0, traffic: Sequence[float] | float = 0.0
) -> Any:
    """Return the softmax of the outputs, one row per text."""
    outputs = (matrix @ full[:, :-1].T + full[:, -1]) / temperature + np.array(traffic)
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def quantize_weights(matrix: Matrix, levels: Any, types: Any, lexicon: Lexicon, options: Options) -> Weights:
    """Convert the coefficients for run time: multiplied by the training scales, eight bits each."""
    calibrated = levels / options.temperature
    calibrated[:, -1] += options.traffic
    both = np.r_[calibrated, types].T
    split = len(matrix.words)
    words = both[:split] * options.word
    signs = both[split:-1] * np.array([[find_scale(sign, options)] for sign in matrix.signs])
    constant = matrix.signs.index("0")
    signs[constant] += both[-1]
    added = _accumulate_counts(dict(zip(matrix.signs, signs, strict=True)))
    return Weights(
        _build_table(matrix.words, words), _build_table(list(added), np.array(list(added.values()))), lexicon
    )


def _accumulate_counts(weights: dict[str, Any]) -> dict[str, Any]:
    """Sum the weights of all numbers up to each; a number without training data weighs like the one below."""
    names = {key.partition(COUNT_SEPARATOR)[0] for key in weights if key.partition(COUNT_SEPARATOR)[2].isdecimal()}
    added = {key: row for key, row in weights.items() if not key.partition(COUNT_SEPARATOR)[2].isdecimal()}
    for name in sorted(names):
        row = np.zeros(len(next(iter(weights.values()))))
        for number in range(1, MAX_COUNT + 1):
            row = row + weights.get(f"{name}{COUNT_SEPARATOR}{number}", 0.0)
            added[f"{name}{COUNT_SEPARATOR}{number}"] = row
    return added


def _build_table(keys: Sequence[str], weights: Any) -> Table:
    units = tuple(float(unit) for unit in np.float32(np.abs(weights).max(0) / MAX_STEP))
    return Table({key: pack_weights(row, units) for key, row in zip(keys, weights.tolist(), strict=True)}, units)
