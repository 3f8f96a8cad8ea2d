"""Index of the deployments that may answer a call, built once per fleet snapshot, so that a decision scans no servers.

A `ScoredDeployment` is a deployment with everything about it that changes only with the fleet. A `ModelGroup` holds the
scored deployments of one model. Groups for a task are sorted by their lowest possible cost: a decision stops at the
first one whose misfit alone costs too much.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import Deployment, Fleet, Priority
from penstock.gateway.fleet.catalog import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput
from penstock.gateway.routing.costs.base import Cost, CostContext
from penstock.gateway.routing.model_profile import ModelProfile, Preferences, is_sufficient, profile_model

SAMPLE_SIZE = 16
"""Choices of one model that a decision weighs; of more it draws this many, those in memory first."""
MAX_NAMES = 4096
"""Names asked for that are remembered: a model may be written in many ways."""
LESSER, RESERVE, AWAY = 2, 1, 4
"""What is added to a choice's tier."""


@dataclass(slots=True, eq=False)
class ScoredDeployment:
    """A deployment; `fixed_cost` is the cost in seconds of what does not change."""

    deployment: Deployment
    load: ServerLoad
    throughput: ModelThroughput
    fixed_cost: float
    tier: int
    misfit: float = 0.0
    size_class: str = ""


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
        """What a choice costs at least, as things are now. Of very many the look counts: they are not gone through."""
        if self.unloaded and len(self.unloaded) <= SAMPLE_SIZE:
            for choice in self.unloaded:
                if choice.deployment.model.name in choice.load.residency.models:
                    return self.min_fixed_cost
        return self.min_snapshot_cost

    def sample(self, rng: random.Random, size: int = SAMPLE_SIZE) -> Sequence[ScoredDeployment]:
        """All, or where there are very many, some: the best of a few at random is nearly the best, and no herd."""
        held, rest = self.loaded, self.unloaded
        if len(held) + len(rest) <= size:
            return held + rest
        some = _sample_window(held, size - max(1, size // 4), rng)
        return some + _sample_window(rest, size - len(some), rng)


def _sample_window(
    choices: tuple[ScoredDeployment, ...], most: int, chance: random.Random
) -> tuple[ScoredDeployment, ...]:
    """So many that stand beside each other, from anywhere."""
    if len(choices) <= most:
        return choices
    at = int(chance.random() * len(choices))
    return choices[at : at + most] + choices[: max(0, at + most - len(choices))]


class Requirements(NamedTuple):
    """What a call needs of a model; `context_tokens` is in tokens, rounded up so that few different ones occur."""

    level: Level
    task_type: TaskType
    needs_vision: bool = False
    needs_tools: bool = False
    context_tokens: int = 0
    kinds: tuple[str, ...] = ()
    server: str = ""
    needs_coder: bool = False


@dataclass(slots=True, eq=False)
class CandidateIndex:
    """For one fleet. `loads` are the live records by server."""

    fleet: Fleet
    loads: Mapping[str, ServerLoad]
    costs: tuple[Cost, ...]
    preferences: Preferences
    can_chat: Mapping[str, bool]  # by kind: whether it converses at all
    _groups_by_name: dict[tuple[object, ...], ModelGroup] = field(default_factory=dict)
    _groups_by_requirements: dict[Requirements, tuple[tuple[ModelGroup, ...], tuple[ModelGroup, ...]]] = field(
        default_factory=dict
    )
    _models: dict[str, tuple[Deployment, ...]] | None = None

    def known(self, key: tuple[object, ...]) -> ModelGroup | None:
        """The choices that `named` has worked out for this fleet."""
        return self._groups_by_name.get(key)

    def named(self, key: tuple[object, ...], deployments: tuple[Deployment, ...]) -> ModelGroup:
        """The choices for what was asked for by name; `key` stands for these deployments as long as the fleet does."""
        group = self._groups_by_name.get(key)
        if group is None:
            if len(self._groups_by_name) >= MAX_NAMES:
                self._groups_by_name.clear()
            group = self._groups_by_name[key] = self._build_group(deployments)
        return group

    def score_deployments(self, deployments: Iterable[Deployment]) -> tuple[ScoredDeployment, ...]:
        """Choices by themselves."""
        return tuple(self._score_deployment(deployment, 0.0, 0, "") for deployment in deployments)

    def find_groups(self, wanted: Requirements) -> tuple[tuple[ModelGroup, ...], tuple[ModelGroup, ...]]:
        """Groups that fit, and lesser ones; both best fit first."""
        found = self._groups_by_requirements.get(wanted)
        if found is None:
            found = self._groups_by_requirements[wanted] = self._build_groups(wanted)
        return found

    def _build_groups(self, wanted: Requirements) -> tuple[tuple[ModelGroup, ...], tuple[ModelGroup, ...]]:
        fitting: list[ModelGroup] = []
        lesser: list[ModelGroup] = []
        listed = bool(self.preferences.task_types.get(wanted.task_type) or self.preferences.levels.get(wanted.level))
        for deployments in self.list_models().values():
            model = deployments[0].model
            kind = profile_model(model)
            suited = tuple(
                deployment for deployment in deployments if self._meets_requirements(deployment, kind, wanted)
            )
            if not suited or "chat" not in kind.strengths:
                continue
            fits = is_sufficient(kind, wanted.level, wanted.task_type)
            if listed and self.preferences.find_rank(model, wanted.level, wanted.task_type) is not None:
                fits = True
            misfit = 1.0 - self.preferences.compute_fit(model, wanted.level, wanted.task_type)
            group = self._build_group(suited, misfit, 0 if fits else LESSER, kind.size_class)
            (fitting if fits else lesser).append(group)
        order = attrgetter("min_snapshot_cost")
        return tuple(sorted(fitting, key=order)), tuple(sorted(lesser, key=order))

    def _meets_requirements(self, deployment: Deployment, kind: ModelProfile, wanted: Requirements) -> bool:
        model, server = deployment.model, deployment.server
        if (wanted.kinds and server.kind not in wanted.kinds) or (wanted.server and server.name != wanted.server):
            return False
        if wanted.needs_coder and "coder" not in kind.strengths:
            return False
        if wanted.needs_vision and "vision" not in kind.strengths:
            return False
        if wanted.needs_tools and model.capabilities and "tools" not in model.capabilities:
            return False
        return not (wanted.context_tokens and model.context_length) or wanted.context_tokens <= model.context_length

    def list_models(self) -> Mapping[str, tuple[Deployment, ...]]:
        """Every model that converses, by the name of its own, and where it is."""
        if self._models is None:
            found: dict[str, dict[tuple[str, str], Deployment]] = {}
            for deployments in self.fleet.deployments.values():
                for deployment in deployments:
                    if self.can_chat.get(deployment.server.kind) and "agent" not in deployment.model.capabilities:
                        name = deployment.model.name.lower().removesuffix(":latest")
                        found.setdefault(name, {})[deployment.server.name, deployment.model.name] = deployment
            self._models = {name: tuple(found[name].values()) for name in sorted(found)}
        return self._models

    def _build_group(
        self, deployments: tuple[Deployment, ...], misfit: float = 0.0, tier: int = 0, word: str = ""
    ) -> ModelGroup:
        choices = [self._score_deployment(deployment, misfit, tier, word) for deployment in deployments]
        held: list[ScoredDeployment] = []
        rest: list[ScoredDeployment] = []
        least = float("inf")
        for choice in choices:
            deployment = choice.deployment
            if deployment.is_up and (deployment.model.is_loaded or not deployment.on_demand):
                held.append(choice)
                least = min(least, choice.fixed_cost)
            else:
                rest.append(choice)
                least = min(least, choice.fixed_cost + choice.throughput.load_seconds)
        count = len(choices)
        words = "the only server with the model" if count == 1 else f"the best of {count} servers with the model"
        fixed = min((choice.fixed_cost for choice in choices), default=0.0)
        return ModelGroup(least, fixed, tuple(held), tuple(rest), words)

    def _score_deployment(self, deployment: Deployment, misfit: float, tier: int, word: str) -> ScoredDeployment:
        server, model = deployment.server, deployment.model
        live = self.loads.get(server.name) or ServerLoad()
        rates = live.throughputs.get(model.name)
        if rates is None:
            rates = ModelThroughput(live.speed_factor, profile_model(model).billions, model.size)
            if len(live.throughputs) < MAX_NAMES:  # work on models may name any
                live.throughputs[model.name] = rates
        if server.priority is Priority.FALLBACK:
            tier += RESERVE
        if not deployment.is_up:
            tier += AWAY
        choice = ScoredDeployment(deployment, live, rates, 0.0, tier, misfit, word)
        rates.update_estimates()
        still = CostContext(0.0, deployment, live, rates, misfit=misfit)
        choice.fixed_cost = sum(signal.estimate(still) for signal in self.costs if signal.is_fixed)
        return choice
