"""From features to weights: matrices as the run time sums them, logistic regression, and the table that is shipped."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from penstock.gateway.routing.complexity.features import COUNT_SEPARATOR, Features, Lexicon
from penstock.gateway.routing.complexity.weights import MAX_STEP, Table, Weights, pack_weights

HIGHEST = 24
"""No sign counts further."""


@dataclass(frozen=True)
class Options:
    """How to train.

    `word`, `sign` and `ask` weigh kinds of features against the penalty; `balance` is the exponent of the classes'
    weights, `own` the weight of our own prompts; `traffic` is added to the levels' outputs, because hard prompts are
    rarer among what people ask than among what is collected for evaluation.
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


def scale_of(sign: str, options: Options) -> float:
    return options.ask if sign.startswith(("^", "1 ", "$")) else options.sign


def expanded(signs: Iterable[str]) -> Iterator[str]:
    """Signs with a number as one sign for each number up to it: so a linear model can bend."""
    for sign in signs:
        name, _, number = sign.partition(COUNT_SEPARATOR)
        if number.isdecimal():
            yield from (f"{name}{COUNT_SEPARATOR}{step}" for step in range(1, int(number) + 1))
        else:
            yield sign


class Matrix:
    """Columns for the features that some number of training texts have."""

    def __init__(self, features: Sequence[Features], options: Options) -> None:
        self._options = options
        words = Counter(word for one in features for word in one.words)
        signs = Counter(sign for one in features for sign in set(expanded(one.signs)))
        self.words = sorted(word for word, count in words.items() if count >= options.rarest)
        self.signs = sorted(sign for sign, count in signs.items() if count >= options.rarest)
        self._word_at = {word: column for column, word in enumerate(self.words)}
        self._sign_at = {sign: column + len(self.words) for column, sign in enumerate(self.signs)}

    def of(self, features: Sequence[Features]) -> Any:
        rows, columns, values = [], [], []
        for row, one in enumerate(features):
            scale = self._options.word / max(1, len(one.words)) ** 0.5
            for word in one.words:
                column = self._word_at.get(word)
                if column is not None:
                    rows.append(row)
                    columns.append(column)
                    values.append(scale)
            for sign in expanded(one.signs):  # a sign that comes twice counts twice, as at run time
                column = self._sign_at.get(sign)
                if column is not None:
                    rows.append(row)
                    columns.append(column)
                    values.append(scale_of(sign, self._options))
        shape = (len(features), len(self.words) + len(self.signs))
        return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def fit(matrix: Any, targets: Any, weights: Any, options: Options, classes: int) -> Any:
    """Coefficients, a row for each class and the intercept last."""
    counts = np.bincount(targets, minlength=classes).clip(1)
    balanced = (len(targets) / classes / counts) ** options.balance
    model = LogisticRegression(C=options.penalty, max_iter=400, tol=1e-4)
    model.fit(matrix, targets, sample_weight=balanced[targets] * weights)
    full = np.zeros((classes, matrix.shape[1] + 1))
    full[model.classes_] = np.c_[model.coef_, model.intercept_]
    absent = [one for one in range(classes) if one not in model.classes_]
    full[absent, -1] = -20.0
    return full


def probabilities(matrix: Any, full: Any, temperature: float = 1.0, traffic: Sequence[float] | float = 0.0) -> Any:
    outputs = (matrix @ full[:, :-1].T + full[:, -1]) / temperature + np.array(traffic)
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def shipped(matrix: Matrix, levels: Any, types: Any, lexicon: Lexicon, options: Options) -> Weights:
    """The coefficients as the run time wants them: the scales of training multiplied in, eight bits each."""
    everyday = levels / options.temperature
    everyday[:, -1] += options.traffic
    both = np.r_[everyday, types].T
    split = len(matrix.words)
    words = both[:split] * options.word
    signs = both[split:-1] * np.array([[scale_of(sign, options)] for sign in matrix.signs])
    everywhere = matrix.signs.index("0")
    signs[everywhere] += both[-1]
    added = _accumulated(dict(zip(matrix.signs, signs, strict=True)))
    return Weights(_table(matrix.words, words), _table(list(added), np.array(list(added.values()))), lexicon)


def _accumulated(weights: dict[str, Any]) -> dict[str, Any]:
    """What each number weighs with all numbers below it; one that training never saw weighs as the one below."""
    names = {key.partition(COUNT_SEPARATOR)[0] for key in weights if key.partition(COUNT_SEPARATOR)[2].isdecimal()}
    added = {key: row for key, row in weights.items() if not key.partition(COUNT_SEPARATOR)[2].isdecimal()}
    for name in sorted(names):
        row = np.zeros(len(next(iter(weights.values()))))
        for number in range(1, HIGHEST + 1):
            row = row + weights.get(f"{name}{COUNT_SEPARATOR}{number}", 0.0)
            added[f"{name}{COUNT_SEPARATOR}{number}"] = row
    return added


def _table(keys: Sequence[str], weights: Any) -> Table:
    units = tuple(float(unit) for unit in np.float32(np.abs(weights).max(0) / MAX_STEP))
    return Table({key: pack_weights(row, units) for key, row in zip(keys, weights.tolist(), strict=True)}, units)
