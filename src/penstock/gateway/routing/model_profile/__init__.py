"""Model profiles: strengths and effective size of a model, and its fit for a task. Pure functions.

The name, size, family and capabilities that a server reports are all that is used. Sizes are measured in billions of
parameters of a general dense model of 2024, separately for general work, code and mathematics. Each level requires a
minimum: a larger model than that fits a little less, a smaller one much less.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import Literal

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import Model
from penstock.gateway.routing.model_profile.families import (
    BASE_MODEL,
    CODER,
    FAMILIES,
    HYBRID,
    STRENGTH_PATTERNS,
    UNKNOWN_FAMILY,
    Family,
)
from penstock.gateway.routing.model_profile.name_parsing import estimate_size, find_bytes_per_weight, normalize_name

SizeClass = Literal["fast", "balanced", "powerful"]

ASSUMED_BILLIONS = 8.0
"""Size of a model about which nothing is known: the size that most people run."""

_MAX_CACHED_PROFILES = 4096

_MIN_BILLIONS = (0.9, 2.3, 6.0, 60.0)
"""By level: the size from which on a model answers the level well."""
_IDEAL_BILLIONS = (1.0, 3.5, 12.0, 70.0)
"""By level: the size beyond which more is wasted. The minimum size fits as well as twice the ideal size."""

_OVERSIZE_PENALTY = 0.03  # subtracted from the fit for each doubling beyond the ideal
_UNDERSIZE_EXPONENT = 0.8  # of the ratio between the size and the minimum
_GENERALIST_FACTOR = 0.9  # for a model without the strength that the task type calls for
_CODER_ELSEWHERE_FACTOR = 0.8  # for a coder on any task but code
_NEEDLESS_REASONING_FACTOR = 0.93  # for a reasoning model on a task that needs no reasoning
_CODER_GENERAL_FACTOR = 0.6  # general billions that a coder's billion is worth


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Strengths and effective size of a model.

    `level` is the highest level that it answers well in its own field (for a coder: code). `billions` is the number of
    parameters: between active and total for a mixture of experts, assumed if `is_size_known` is False. `general`,
    `code` and `math` are the billions of a typical general model that performs as well in that field. `strengths` are
    some of coder, reasoning, vision, embedding, tools, chat. `size_class` is what `auto:fast` and the like select.
    """

    level: Level
    billions: float
    strengths: frozenset[str]
    size_class: SizeClass
    general: float
    code: float
    math: float
    is_size_known: bool = True

    def effective_billions(self, task_type: TaskType) -> float:
        """Return the billions that count for a task type."""
        if task_type is TaskType.CODE:
            return self.code
        return self.math if task_type is TaskType.MATH_REASONING else self.general


def profile_model(model: Model) -> ModelProfile:
    """Profile a model. It never fails; equal names, sizes, families and capabilities give equal profiles."""
    return _profile_fields(
        model.name,
        model.size,
        parameters=model.parameters,
        quantization=model.quantization,
        family=model.family,
        file_format=model.format,
        capabilities=model.capabilities,
    )


def estimate_billions(model: Model) -> float:
    """Return a model's billions of parameters, assumed if nothing is known about it."""
    return profile_model(model).billions


def name_level(model: Model) -> str | None:
    """Return the name of the highest level that a model answers well.

    None if it does not chat (an embedding model, for instance), or if its size is not known.
    """
    profile = profile_model(model)
    return profile.level.label if "chat" in profile.strengths and profile.is_size_known else None


def compute_fit(profile: ModelProfile, level: Level, task_type: TaskType) -> float:
    """Return the fit of a model for a task in [0, 1]: 1.0 is best, 0.0 must never be used.

    Of two models with the same strengths the one nearer to the ideal size fits better. Below the minimum size the fit
    falls steeply.
    """
    strengths = profile.strengths
    if "chat" not in strengths:
        return 0.0
    score = _fit_by_size(profile.effective_billions(task_type), level)
    if task_type is TaskType.CODE:
        return score if "coder" in strengths else score * _GENERALIST_FACTOR
    if "coder" in strengths:
        score *= _CODER_ELSEWHERE_FACTOR
    if task_type is TaskType.MATH_REASONING:
        return score if "reasoning" in strengths else score * _GENERALIST_FACTOR
    return score * _NEEDLESS_REASONING_FACTOR if level < Level.MODERATE and "reasoning" in strengths else score


def is_sufficient(profile: ModelProfile, level: Level, task_type: TaskType) -> bool:
    """Return whether a model answers a level well. A model that does not is a lesser one."""
    return "chat" in profile.strengths and profile.effective_billions(task_type) >= _MIN_BILLIONS[level]


def _fit_by_size(billions: float, level: Level) -> float:
    minimum, ideal = _MIN_BILLIONS[level], _IDEAL_BILLIONS[level]
    if billions > ideal:
        return max(0.5, 1 - _OVERSIZE_PENALTY * log2(billions / ideal))
    if billions >= minimum:
        return 1 - _OVERSIZE_PENALTY * (1 - (billions - minimum) / (ideal - minimum))
    return float((1 - _OVERSIZE_PENALTY) * (billions / minimum) ** _UNDERSIZE_EXPONENT)


@lru_cache(maxsize=_MAX_CACHED_PROFILES)
def _profile_fields(
    name: str,
    size: int,
    *,
    parameters: str,
    quantization: str,
    family: str,
    file_format: str,
    capabilities: frozenset[str],
) -> ModelProfile:
    """Profile a model by the fields that matter. The cache ignores those that change with every probe."""
    model = Model(name, size, parameters, quantization, family, file_format, capabilities=capabilities)
    text = normalize_name(name)
    row = _find_family(text, family)
    total = estimate_size(model, text, row.billions, 0.0).total
    model_size = estimate_size(model, text, row.billions, row.find_active(total))
    strengths = _find_strengths(row, text, capabilities)
    billions = model_size.dense_equivalent or ASSUMED_BILLIONS
    effective = billions * row.quality * _find_quantization_factor(find_bytes_per_weight(model, text))
    if BASE_MODEL.search(text):
        effective /= 2
    is_coder = "coder" in strengths
    general = effective * (_CODER_GENERAL_FACTOR if is_coder else 1.0)
    code = effective * max(row.code, CODER if is_coder else 1.0)
    math = effective * max(row.math, HYBRID if "reasoning" in strengths else 1.0)
    level = _find_level(max(general, code) if is_coder else general)
    return ModelProfile(
        level,
        billions,
        strengths,
        _find_size_class(level),
        general=general,
        code=code,
        math=general if is_coder else math,
        is_size_known=model_size.total > 0,
    )


def _find_family(text: str, family: str) -> Family:
    """Return the family that the name matches, else the one that the server's family name matches."""
    for name in (text, family.lower()):
        for row in FAMILIES:
            if name and row.name.search(name):
                return row
    return UNKNOWN_FAMILY


def _find_strengths(row: Family, text: str, capabilities: frozenset[str]) -> frozenset[str]:
    """Return the strengths that the server reports; without a report those of the family and of words in the name."""
    strengths = set(row.strengths)
    strengths.update(strength for pattern, strength in STRENGTH_PATTERNS if strengths and pattern.search(text))
    if capabilities:
        strengths -= {"vision", "tools"}
        strengths |= capabilities & {"vision", "tools"}
        if "thinking" in capabilities:
            strengths.add("reasoning")
        if "embedding" in capabilities and "completion" not in capabilities:
            strengths = {"embedding"}
    return frozenset({"embedding"} if "embedding" in strengths else strengths)


def _find_quantization_factor(bytes_per_weight: float) -> float:
    """Return the share of a model's quality that is left after quantization. Four bits and more lose nothing."""
    if not bytes_per_weight or bytes_per_weight >= 0.55:
        return 1.0
    return 0.85 if bytes_per_weight >= 0.45 else 0.6


def _find_level(billions: float) -> Level:
    return max((level for level in Level if billions >= _MIN_BILLIONS[level]), default=Level.TRIVIAL)


def _find_size_class(level: Level) -> SizeClass:
    if level <= Level.SIMPLE:
        return "fast"
    return "balanced" if level is Level.MODERATE else "powerful"
