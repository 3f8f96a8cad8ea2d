"""What a model is good for, told from its name, size, family and capabilities, and how well that fits a task. Pure.

Everything is measured in billions of parameters of a general dense model of 2024, in three trades: general work, code,
and mathematics. A level asks for so many; a bigger model than that costs a little, a smaller one much.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import log2
from types import MappingProxyType
from typing import Literal

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import Model
from penstock.gateway.fleet.catalog import list_names
from penstock.gateway.routing.model_profile.families import (
    BASE_MODEL,
    FAMILIES,
    HYBRID,
    STRENGTH_PATTERNS,
    UNKNOWN_FAMILY,
    Family,
)
from penstock.gateway.routing.model_profile.families import CODER as _CODER
from penstock.gateway.routing.model_profile.name_parsing import estimate_size, find_bytes_per_weight, normalize_name

SizeClass = Literal["fast", "balanced", "powerful"]

ASSUMED_BILLIONS = 8.0
"""Billions of a model of which nothing is told: the size that most people run."""

_MAX_CACHED_PROFILES = 4096

_MIN_BILLIONS = (0.9, 2.3, 6.0, 60.0)
"""By level: billions from which on a model answers a level well."""
_IDEAL_BILLIONS = (1.0, 3.5, 12.0, 70.0)
"""By level: billions beyond which more is a waste; what is just enough is worth as much as twice the ideal."""

_OVERSIZE_PENALTY = 0.03  # of the fit, for each doubling away from the ideal
_UNDERSIZE_EXPONENT = 0.8  # the exponent of what there is over what is enough
_GENERALIST_FACTOR = 0.9  # a model without the task's own strength, where there may be one with it
_CODER_ELSEWHERE_FACTOR = 0.8  # a coder asked for anything else
_NEEDLESS_REASONING_FACTOR = 0.93  # a model that reasons, asked what needs no reasoning
_CODER_GENERAL_FACTOR = 0.6  # billions that a coder's billion is worth outside code


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
        """The billions that count for a task."""
        if task_type is TaskType.CODE:
            return self.code
        return self.math if task_type is TaskType.MATH_REASONING else self.general


def profile_model(model: Model) -> ModelProfile:
    """The class of a model; total, and the same for the same name, size, family and capabilities."""
    return _profile_model(
        model.name,
        model.size,
        model.parameters,
        model.quantization,
        model.family,
        model.format,
        model.capabilities,
    )


def compute_fit(profile: ModelProfile, level: Level, task_type: TaskType) -> float:
    """How well a model of that class suits a task, in [0, 1]: 1.0 is best, 0.0 must never be asked.

    Of two models with the same strengths the one nearer to the ideal size fits better; below what is enough the fit
    falls with what is lacking, steeply.
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
    """Whether a model of that class answers a level well; less than that is a makeshift."""
    return "chat" in profile.strengths and profile.effective_billions(task_type) >= _MIN_BILLIONS[level]


@dataclass(frozen=True, slots=True)
class Preferences:
    """The settings' lists of models, best first. A list for the task's type counts before one for its level."""

    levels: Mapping[Level, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    task_types: Mapping[TaskType, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_names(
        cls, levels: Mapping[str, tuple[str, ...]], task_types: Mapping[str, tuple[str, ...]]
    ) -> "Preferences":
        """From the words of a settings file. Raises KeyError or ValueError for a level or type that does not exist."""
        by_level = {Level[word.upper()]: models for word, models in levels.items() if models}
        by_type = {TaskType(word): models for word, models in task_types.items() if models}
        return cls(MappingProxyType(by_level), MappingProxyType(by_type))

    def find_rank(self, model: Model, level: Level, task_type: TaskType) -> int | None:
        """Where the model stands in the list that counts, 0 is first; None when it is not listed there."""
        listed = self.task_types.get(task_type) or self.levels.get(level)
        if not listed:
            return None
        names = list_names(model)
        places = (place for place, wanted in enumerate(listed) if wanted.lower().removesuffix(":latest") in names)
        return next(places, None)

    def compute_fit(self, model: Model, level: Level, task_type: TaskType) -> float:
        """As `compute_fit`, but what is listed comes first, in the list's order, and the rest behind it, in its own.

        Listed models have a fit above 0.9, others at most 0.9; without a list for this task nothing changes.
        """
        own = compute_fit(profile_model(model), level, task_type)
        if not (self.task_types.get(task_type) or self.levels.get(level)):
            return own
        place = self.find_rank(model, level, task_type)
        return 0.9 * own if place is None else 0.9 + 0.1 / (1 + place)


def _fit_by_size(billions: float, level: Level) -> float:
    enough, ideal = _MIN_BILLIONS[level], _IDEAL_BILLIONS[level]
    if billions > ideal:
        return max(0.5, 1 - _OVERSIZE_PENALTY * log2(billions / ideal))
    if billions >= enough:
        return 1 - _OVERSIZE_PENALTY * (1 - (billions - enough) / (ideal - enough))
    return float((1 - _OVERSIZE_PENALTY) * (billions / enough) ** _UNDERSIZE_EXPONENT)


@lru_cache(maxsize=_MAX_CACHED_PROFILES)
def _profile_model(
    name: str, size: int, parameters: str, quantization: str, family: str, form: str, capabilities: frozenset[str]
) -> ModelProfile:
    model = Model(name, size, parameters, quantization, family, form, capabilities=capabilities)
    text = normalize_name(name)
    row = _find_family(text, family)
    first = estimate_size(model, text, row.billions, 0.0)
    measured = estimate_size(model, text, row.billions, row.find_active(first.total))
    strengths = _find_strengths(row, text, capabilities)
    billions = measured.dense_equivalent or ASSUMED_BILLIONS
    worth = billions * row.quality * _quantization_factor(find_bytes_per_weight(model, text))
    if BASE_MODEL.search(text):
        worth /= 2
    coder = "coder" in strengths
    general = worth * (_CODER_GENERAL_FACTOR if coder else 1.0)
    code = worth * max(row.code, _CODER if coder else 1.0)
    math = worth * max(row.math, HYBRID if "reasoning" in strengths else 1.0)
    if coder:
        math = general
    level = _find_level(max(general, code) if coder else general)
    return ModelProfile(level, billions, strengths, _name_size_class(level), general, code, math, measured.total > 0)


def _find_family(text: str, family: str) -> Family:
    """The row of a name, else of what the server calls its family."""
    for said in (text, family.lower()):
        for row in FAMILIES:
            if said and row.name.search(said):
                return row
    return UNKNOWN_FAMILY


def _find_strengths(row: Family, text: str, capabilities: frozenset[str]) -> frozenset[str]:
    """What the server says counts; where it says nothing, what the family and the words of the name say."""
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


def _quantization_factor(bytes_per_weight: float) -> float:
    """What heavy quantisation leaves of a model; four bits and more lose nothing that matters here."""
    if not bytes_per_weight or bytes_per_weight >= 0.55:
        return 1.0
    return 0.85 if bytes_per_weight >= 0.45 else 0.6


def _find_level(billions: float) -> Level:
    return max((level for level in Level if billions >= _MIN_BILLIONS[level]), default=Level.TRIVIAL)


def _name_size_class(level: Level) -> SizeClass:
    if level <= Level.SIMPLE:
        return "fast"
    return "balanced" if level is Level.MODERATE else "powerful"
