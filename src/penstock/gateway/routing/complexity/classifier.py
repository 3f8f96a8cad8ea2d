"""How hard a text is and what it is about, in some hundred microseconds and with nothing but the standard library.

A linear model over words, shared meanings and the text's looks, trained offline by `training/train.py`. The level is
the one with the least expected cost; a level too low costs `under_cost` times what a level too high does.
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
"""What it costs to be wrong by so many levels: two levels off is worse than one level off twice."""

_LEVELS = tuple(Level)
_COSTS = [
    (
        level,
        [ERROR_COSTS[true - level] if true > level else 0.0 for true in _LEVELS],
        [ERROR_COSTS[level - true] if true < level else 0.0 for true in _LEVELS],
    )
    for level in reversed(_LEVELS)
]
"""For each level, highest first: what it costs to choose it where a higher one, or a lower one, is right."""

_TYPES = tuple(TaskType)
_KEY_BYTES = 16

Scores = tuple[float, float, float, float]


def choose_level(scores: Sequence[float], under_cost: float = UNDER_COST) -> Level:
    """The level of least expected cost, of equals the higher; a higher `under_cost` never gives a lower level.

    `scores` are the probabilities of the four levels, lowest first.
    """
    best, least = _LEVELS[-1], math.inf
    for level, below, above in _COSTS:
        cost = under_cost * sum(map(mul, below, scores)) + sum(map(mul, above, scores))
        if cost < least:
            best, least = level, cost
    return best


class Classifier:
    """Judges texts; the same text always gets the same judgement, whatever was asked before."""

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
        """The level and the kind of a text of any length and content; for a conversation, its last user message."""
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        kept = self._cache
        judgement = kept.pop(key, None)
        if judgement is None:
            judgement = self._classify_uncached(text)
            if len(kept) >= self._cache_size:
                if not self._cache_size:
                    return judgement
                del kept[next(iter(kept))]
        kept[key] = judgement
        return judgement

    def load_weights(self) -> None:
        """Read the weights now, so that the first text need not wait for them."""
        self._load_parts()

    def _classify_uncached(self, text: str) -> Classification:
        reader, weights = self._load_parts()
        features = reader.extract_features(text)
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
        reader = self._extractor
        if reader is None:
            reader = self._extractor = FeatureExtractor(weights.lexicon)
        return reader, weights


@cache
def _load_own_weights() -> Weights:
    return load_weights_file(WEIGHTS)


def _compute_softmax(outputs: Sequence[float]) -> Scores:
    most = max(outputs)
    one, two, three, four = (math.exp(output - most) for output in outputs)
    total = one + two + three + four
    return one / total, two / total, three / total, four / total
