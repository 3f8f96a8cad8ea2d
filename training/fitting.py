"""From features to weights: matrices as the run time sums them, logistic regression, and the table that is shipped."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from penstock.gateway.routing.classifier_features import Features, Lexicon
from penstock.gateway.routing.classifier_weights import MOST, Table, Weights, pack


@dataclass(frozen=True)
class Options:
    """How to train.

    `word`, `sign` and `ask` weigh kinds of features against the penalty; `balance` is the exponent of the classes'
    weights, `own` the weight of our own prompts.
    """

    penalty: float = 0.3
    word: float = 3.0
    sign: float = 0.5
    ask: float = 0.7
    rarest: int = 2
    balance: float = 1.0
    own: float = 1.0
    temperature: float = 1.0


def scale_of(sign: str, options: Options) -> float:
    return options.ask if sign.startswith(("^", "1 ", "$")) else options.sign


class Matrix:
    """Columns for the features that some number of training texts have."""

    def __init__(self, features: Sequence[Features], options: Options) -> None:
        self._options = options
        words = Counter(word for one in features for word in one.words)
        signs = Counter(sign for one in features for sign in set(one.signs))
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
            for sign in one.signs:  # a sign that comes twice counts twice, as at run time
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


def probabilities(matrix: Any, full: Any, temperature: float = 1.0) -> Any:
    outputs = (matrix @ full[:, :-1].T + full[:, -1]) / temperature
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def shipped(matrix: Matrix, levels: Any, types: Any, lexicon: Lexicon, options: Options) -> Weights:
    """The coefficients as the run time wants them: the scales of training multiplied in, eight bits each."""
    both = np.r_[levels / options.temperature, types].T
    split = len(matrix.words)
    words = both[:split] * options.word
    signs = both[split:-1] * np.array([[scale_of(sign, options)] for sign in matrix.signs])
    everywhere = matrix.signs.index("0")
    signs[everywhere] += both[-1]
    return Weights(_table(matrix.words, words), _table(matrix.signs, signs), lexicon)


def _table(keys: Sequence[str], weights: Any) -> Table:
    units = tuple(float(unit) for unit in np.float32(np.abs(weights).max(0) / MOST))
    return Table({key: pack(row, units) for key, row in zip(keys, weights.tolist(), strict=True)}, units)
