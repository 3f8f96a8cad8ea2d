"""Classifier of texts by level and task type. It takes tens of microseconds and needs the standard library only.

A linear model over words, shared meanings and the shape of the text, trained offline by `training/train.py`. The level
is the one with the lowest expected cost; a level too low costs `under_cost` times as much as a level too high.
"""

import math
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from operator import mul
from pathlib import Path

from penstock.domain.complexity import Classification, Level, TaskType
from penstock.gateway.routing.complexity.features import FeatureExtractor
from penstock.gateway.routing.complexity.weights import LEVELS, Weights, load_weights_file

UNDER_COST = 2.0
CACHE_SIZE = 4096
WEIGHTS = Path(__file__).with_name("weights.bin")

ERROR_COSTS = (0.0, 1.0, 3.0, 6.0)
"""Cost of an error by so many levels: an error by two levels is worse than two errors by one."""

_LEVELS = tuple(Level)
_COSTS = [
    (
        level,
        [ERROR_COSTS[true - level] if true > level else 0.0 for true in _LEVELS],
        [ERROR_COSTS[level - true] if true < level else 0.0 for true in _LEVELS],
    )
    for level in reversed(_LEVELS)
]
"""For each level, highest first: the cost of choosing it if a higher level, or a lower one, is right."""

_TYPES = tuple(TaskType)
_KEY_BYTES = 16

Scores = tuple[float, float, float, float]


def choose_level(scores: Sequence[float], under_cost: float = UNDER_COST) -> Level:
    """Return the level of the lowest expected cost, the higher one of equals.

    `scores` are the probabilities of the four levels, lowest first. A higher `under_cost` never gives a lower level.
    """
    best, min_cost = _LEVELS[-1], math.inf
    for level, below, above in _COSTS:
        cost = under_cost * sum(map(mul, below, scores)) + sum(map(mul, above, scores))
        if cost < min_cost:
            best, min_cost = level, cost
    return best


class Classifier:
    """Classifies texts, with a cache. Equal texts always get equal results."""

    def __init__(
        self, under_cost: float = UNDER_COST, cache_size: int = CACHE_SIZE, weights: Weights | None = None
    ) -> None:
        """Take the number of results to cache, by hash and without the text, and the weights.

        Without `weights` the package's own are loaded once per process, when the first text is classified.
        """
        self.under_cost = under_cost
        self._cache_size = cache_size
        self._cache: dict[bytes, Classification] = {}
        self._weights = weights
        self._extractor: FeatureExtractor | None = None

    def classify(self, text: str) -> Classification:
        """Return the level and task type of a text of any length; for a conversation, of its last user message."""
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        cache = self._cache
        classification = cache.pop(key, None)
        if classification is None:
            classification = self._classify_uncached(text)
            if len(cache) >= self._cache_size:
                if not self._cache_size:
                    return classification
                del cache[next(iter(cache))]
        cache[key] = classification
        return classification

    def load_weights(self) -> None:
        """Load the weights now, so that the first text does not wait for them."""
        self._load_parts()

    def _classify_uncached(self, text: str) -> Classification:
        extractor, weights = self._load_parts()
        features = extractor.extract_features(text)
        scale = 1 / math.sqrt(len(features.words) or 1)
        words = weights.words.sum_outputs(features.words)
        signs = weights.signs.sum_outputs(features.signs)
        outputs = [word * scale + sign for word, sign in zip(words, signs, strict=True)]
        scores = _compute_softmax(outputs[:LEVELS])
        types = outputs[LEVELS:]
        return Classification(choose_level(scores, self.under_cost), _TYPES[types.index(max(types))], scores)

    def _load_parts(self) -> tuple[FeatureExtractor, Weights]:
        weights = self._weights
        if weights is None:
            weights = self._weights = _load_own_weights()
        extractor = self._extractor
        if extractor is None:
            extractor = self._extractor = FeatureExtractor(weights.lexicon)
        return extractor, weights


@cache
def _load_own_weights() -> Weights:
    return load_weights_file(WEIGHTS)


def _compute_softmax(outputs: Sequence[float]) -> Scores:
    largest = max(outputs)
    trivial, simple, moderate, complex_ = (math.exp(output - largest) for output in outputs)
    total = trivial + simple + moderate + complex_
    return trivial / total, simple / total, moderate / total, complex_ / total
