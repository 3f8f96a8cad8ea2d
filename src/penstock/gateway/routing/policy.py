"""Routing policy: the settings that decide where a call may go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import AGENT_CHAIN, Model
from penstock.domain.model_names import normalize_model_name
from penstock.gateway.fleet.catalog import list_names
from penstock.gateway.routing.model_profile import compute_fit, profile_model


@dataclass(frozen=True, slots=True)
class Preferences:
    """Preferred models from the settings, best first. A list for the task type overrides one for the level."""

    levels: Mapping[Level, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    task_types: Mapping[TaskType, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_names(
        cls, levels: Mapping[str, tuple[str, ...]], task_types: Mapping[str, tuple[str, ...]]
    ) -> "Preferences":
        """Build from the names in a settings file. Raises KeyError or ValueError for an unknown level or task type."""
        by_level = {Level[name.upper()]: models for name, models in levels.items() if models}
        by_type = {TaskType(name): models for name, models in task_types.items() if models}
        return cls(MappingProxyType(by_level), MappingProxyType(by_type))

    def find_rank(self, model: Model, level: Level, task_type: TaskType) -> int | None:
        """Return the model's index in the list that applies, 0 for the first; None if it is not in the list."""
        preferred = self._find_list(level, task_type)
        names = list_names(model) if preferred else ()
        ranks = (rank for rank, name in enumerate(preferred) if normalize_model_name(name) in names)
        return next(ranks, None)

    def compute_fit(self, model: Model, level: Level, task_type: TaskType) -> float:
        """Return the model's fit for a task in [0, 1], with preferred models first, in the order of their list.

        Preferred models have a fit above 0.9, the others at most 0.9. Without a list for this task the fit is that of
        `model_profile.compute_fit`.
        """
        fit = compute_fit(profile_model(model), level, task_type)
        if not self._find_list(level, task_type):
            return fit
        rank = self.find_rank(model, level, task_type)
        return 0.9 * fit if rank is None else 0.9 + 0.1 / (1 + rank)

    def _find_list(self, level: Level, task_type: TaskType) -> tuple[str, ...]:
        return self.task_types.get(task_type) or self.levels.get(level) or ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of routing.

    `mode` is LLM_MODE, `model` the default model (LLM_MODEL). `chain` is the order of engine kinds for agent chat.
    `mismatch` explains that LLM_MODEL and VLLM_MODEL differ; it is added to the error when a model is missing.
    `distributed`: with several servers, calls that name no model are routed by complexity.
    """

    mode: str = "ollama"
    model: str = "llama3.1:8b"
    mismatch: str = ""
    chain: tuple[str, ...] = AGENT_CHAIN
    distributed: bool = True
    preferences: Preferences = field(default_factory=Preferences)
