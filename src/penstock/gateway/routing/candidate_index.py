"""Index of the deployments that may answer a call, built once per fleet snapshot, so that a decision scans no servers.

It reads the fleet and the live state of its servers and changes neither. A `ScoredDeployment` is a deployment with
everything about it that changes only with the fleet. A `ModelGroup` holds the scored deployments of one model. Groups
for a task are sorted by their lowest possible cost: a decision stops at the first one whose misfit alone costs too
much.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import Deployment, Fleet, Priority
from penstock.domain.model_names import normalize_model_name
from penstock.domain.request import Call
from penstock.domain.routing_decision import Tier
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput
from penstock.gateway.routing.costs.base import Cost, CostContext
from penstock.gateway.routing.model_profile import ModelProfile, is_sufficient, profile_model
from penstock.gateway.routing.policy import Preferences

SAMPLE_SIZE = 16
"""Deployments of one model that a decision ranks. Of a larger group a sample is ranked, loaded ones first."""
MAX_NAMES = 4096
"""Limit of cached names: callers may write a model's name in many ways."""


@dataclass(slots=True, eq=False)
class ScoredDeployment:
    """A deployment with its live state. `fixed_cost` is the sum of its fixed costs in seconds."""

    deployment: Deployment
    load: ServerLoad
    throughput: ModelThroughput
    tier: Tier = Tier.FITS
    misfit: float = 0.0
    size_class: str = ""
    fixed_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Scored deployments of one model: those in memory at the time of the snapshot, and the others.

    No deployment costs less than `min_snapshot_cost` seconds, unless its model was loaded since the snapshot. Then it
    costs at least `min_fixed_cost`.
    """

    min_snapshot_cost: float
    min_fixed_cost: float
    loaded: tuple[ScoredDeployment, ...]
    unloaded: tuple[ScoredDeployment, ...] = ()
    reason: str = ""

    def find_min_cost(self) -> float:
        """Return the lowest cost that a deployment can have now.

        If the group is large, loads since the snapshot are ignored: scanning it would take too long.
        """
        if self.unloaded and len(self.unloaded) <= SAMPLE_SIZE:
            for scored in self.unloaded:
                if scored.deployment.model.name in scored.load.residency.models:
                    return self.min_fixed_cost
        return self.min_snapshot_cost

    def sample(self, rng: random.Random, size: int = SAMPLE_SIZE) -> Sequence[ScoredDeployment]:
        """Return all deployments, or a random sample of a large group.

        The best of a few at random is nearly the best of all, and concurrent calls do not all choose the same server.
        """
        loaded, unloaded = self.loaded, self.unloaded
        if len(loaded) + len(unloaded) <= size:
            return loaded + unloaded
        sample = _take_window(loaded, size - max(1, size // 4), rng)
        return sample + _take_window(unloaded, size - len(sample), rng)


def _take_window(
    deployments: tuple[ScoredDeployment, ...], size: int, rng: random.Random
) -> tuple[ScoredDeployment, ...]:
    """Return `size` consecutive deployments from a random offset, wrapping around."""
    if len(deployments) <= size:
        return deployments
    start = int(rng.random() * len(deployments))
    return deployments[start : start + size] + deployments[: max(0, start + size - len(deployments))]


class Requirements(NamedTuple):
    """Requirements of a call on its model. `context_tokens` is rounded up, so that few distinct values occur."""

    level: Level
    task_type: TaskType
    needs_vision: bool = False
    needs_tools: bool = False
    needs_coder: bool = False
    context_tokens: int = 0
    kinds: tuple[str, ...] = ()
    server: str = ""


class RankedGroups(NamedTuple):
    """Groups of models that fit a task, and of lesser ones; both sorted by their lowest possible cost."""

    fitting: tuple[ModelGroup, ...]
    lesser: tuple[ModelGroup, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether no model meets the requirements."""
        return not self.fitting and not self.lesser


@dataclass(slots=True, eq=False)
class CandidateIndex:
    """Candidates in one fleet snapshot. `can_chat` tells for each engine kind whether it supports chat.

    `fleet` may be replaced by a newer snapshot with the same deployments.
    """

    fleet: Fleet
    loads: Mapping[str, ServerLoad]
    costs: tuple[Cost, ...]
    preferences: Preferences
    can_chat: Mapping[str, bool]
    _groups_by_name: dict[tuple[object, ...], ModelGroup] = field(default_factory=dict)
    _groups_by_requirements: dict[Requirements, RankedGroups] = field(default_factory=dict)
    _models: dict[str, tuple[Deployment, ...]] | None = None

    def find_named_group(self, call: Call) -> ModelGroup | None:
        """Return the cached group for a call that names its model, None if there is none yet."""
        return self._groups_by_name.get(_name_key(call))

    def add_named_group(self, call: Call, deployments: tuple[Deployment, ...]) -> ModelGroup:
        """Build and cache the group for a call that names its model."""
        if len(self._groups_by_name) >= MAX_NAMES:
            self._groups_by_name.clear()
        group = self._groups_by_name[_name_key(call)] = self._build_group(deployments)
        return group

    def score_deployments(self, deployments: Iterable[Deployment]) -> tuple[ScoredDeployment, ...]:
        """Score deployments whose model was named by the caller or the settings."""
        return tuple(self._score_deployment(deployment) for deployment in deployments)

    def find_groups(self, requirements: Requirements) -> RankedGroups:
        """Return the groups of all models that meet the requirements."""
        groups = self._groups_by_requirements.get(requirements)
        if groups is None:
            groups = self._groups_by_requirements[requirements] = self._build_groups(requirements)
        return groups

    def list_models(self) -> Mapping[str, tuple[Deployment, ...]]:
        """Return the deployments of every model that supports chat, by the model's own name."""
        if self._models is None:
            models: dict[str, dict[tuple[str, str], Deployment]] = {}
            for deployments in self.fleet.deployments.values():
                for deployment in deployments:
                    if self.can_chat.get(deployment.server.kind) and "agent" not in deployment.model.capabilities:
                        name = normalize_model_name(deployment.model.name)
                        models.setdefault(name, {})[deployment.server.name, deployment.model.name] = deployment
            self._models = {name: tuple(models[name].values()) for name in sorted(models)}
        return self._models

    def _build_groups(self, requirements: Requirements) -> RankedGroups:
        fitting: list[ModelGroup] = []
        lesser: list[ModelGroup] = []
        level, task_type = requirements.level, requirements.task_type
        for deployments in self.list_models().values():
            model = deployments[0].model
            profile = profile_model(model)
            able = tuple(d for d in deployments if _meets_requirements(d, profile, requirements))
            if not able or "chat" not in profile.strengths:
                continue
            is_preferred = self.preferences.find_rank(model, level, task_type) is not None
            is_lesser = not is_preferred and not is_sufficient(profile, level, task_type)
            misfit = 1.0 - self.preferences.compute_fit(model, level, task_type)
            group = self._build_group(able, misfit, is_lesser, profile.size_class)
            (lesser if is_lesser else fitting).append(group)
        by_cost = attrgetter("min_snapshot_cost")
        return RankedGroups(tuple(sorted(fitting, key=by_cost)), tuple(sorted(lesser, key=by_cost)))

    def _build_group(
        self, deployments: tuple[Deployment, ...], misfit: float = 0.0, is_lesser: bool = False, size_class: str = ""
    ) -> ModelGroup:
        loaded: list[ScoredDeployment] = []
        unloaded: list[ScoredDeployment] = []
        min_snapshot_cost = min_fixed_cost = float("inf")
        for deployment in deployments:
            scored = self._score_deployment(deployment, misfit, is_lesser, size_class)
            min_fixed_cost = min(min_fixed_cost, scored.fixed_cost)
            if deployment.is_up and (deployment.model.is_loaded or not deployment.on_demand):
                loaded.append(scored)
                min_snapshot_cost = min(min_snapshot_cost, scored.fixed_cost)
            else:
                unloaded.append(scored)
                min_snapshot_cost = min(min_snapshot_cost, scored.fixed_cost + scored.throughput.load_seconds)
        count = len(deployments)
        reason = "the only server with the model" if count == 1 else f"the best of {count} servers with the model"
        return ModelGroup(min_snapshot_cost, min_fixed_cost, tuple(loaded), tuple(unloaded), reason)

    def _score_deployment(
        self, deployment: Deployment, misfit: float = 0.0, is_lesser: bool = False, size_class: str = ""
    ) -> ScoredDeployment:
        server, model = deployment.server, deployment.model
        load = self.loads.get(server.name) or ServerLoad()
        throughput = load.throughputs.get(model.name)
        if throughput is None:  # a model that its server does not list: the name comes from the caller
            throughput = ModelThroughput(load.speed_factor, profile_model(model).billions, model.size)
        is_reserve = server.priority is Priority.FALLBACK
        tier = Tier.classify(is_lesser=is_lesser, is_reserve=is_reserve, is_available=deployment.is_up)
        scored = ScoredDeployment(deployment, load, throughput, tier, misfit, size_class)
        context = CostContext(0.0, deployment, load, throughput, misfit=misfit)
        scored.fixed_cost = sum(cost.estimate(context) for cost in self.costs if cost.is_fixed)
        return scored


def _name_key(call: Call) -> tuple[object, ...]:
    """Return the key that identifies a named call's deployments within one snapshot."""
    return call.model, call.operation.value, call.kinds, call.server


def _meets_requirements(deployment: Deployment, profile: ModelProfile, requirements: Requirements) -> bool:
    model, server = deployment.model, deployment.server
    if requirements.kinds and server.kind not in requirements.kinds:
        return False
    if requirements.server and server.name != requirements.server:
        return False
    if requirements.needs_coder and "coder" not in profile.strengths:
        return False
    if requirements.needs_vision and "vision" not in profile.strengths:
        return False
    if requirements.needs_tools and model.capabilities and "tools" not in model.capabilities:
        return False
    if not requirements.context_tokens or not model.context_length:
        return True
    return requirements.context_tokens <= model.context_length
