"""Who might answer what, in a fleet as it is: worked out once for each fleet, so that a decision scans no servers.

A `Choice` is a deployment with everything about it that only changes with the fleet. A `Group` is the choices of one
model. Groups for a task are kept best fit first: a decision stops at the first whose misfit alone costs too much.
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
from penstock.gateway.routing.costs.base import Signal, Situation
from penstock.gateway.routing.model_profile import ModelClass, Preferences, class_of, enough

MOST_WEIGHED = 16
"""Choices of one model that a decision weighs; of more it draws this many, those in memory first."""
MOST_NAMES = 4096
"""Names asked for that are remembered: a model may be written in many ways."""
LESSER, RESERVE, AWAY = 2, 1, 4
"""What is added to a choice's tier."""


@dataclass(slots=True, eq=False)
class Choice:
    """A deployment; `fixed` is the cost in seconds of what does not change."""

    deployment: Deployment
    live: ServerLoad
    rates: ModelThroughput
    fixed: float
    tier: int
    misfit: float = 0.0
    word: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The choices of one model, those in memory apart. No choice costs less than `least` seconds, unless it was loaded
    since the fleet was looked at; then not less than `fixed`."""

    least: float
    fixed: float
    held: tuple[Choice, ...]
    rest: tuple[Choice, ...] = ()
    words: str = ""

    def floor(self) -> float:
        """What a choice costs at least, as things are now. Of very many the look counts: they are not gone through."""
        if self.rest and len(self.rest) <= MOST_WEIGHED:
            for choice in self.rest:
                if choice.deployment.model.name in choice.live.residency.models:
                    return self.fixed
        return self.least

    def drawn(self, chance: random.Random, most: int = MOST_WEIGHED) -> Sequence[Choice]:
        """All, or where there are very many, some: the best of a few at random is nearly the best, and no herd."""
        held, rest = self.held, self.rest
        if len(held) + len(rest) <= most:
            return held + rest
        some = _window(held, most - max(1, most // 4), chance)
        return some + _window(rest, most - len(some), chance)


def _window(choices: tuple[Choice, ...], most: int, chance: random.Random) -> tuple[Choice, ...]:
    """So many that stand beside each other, from anywhere."""
    if len(choices) <= most:
        return choices
    at = int(chance.random() * len(choices))
    return choices[at : at + most] + choices[: max(0, at + most - len(choices))]


class Wanted(NamedTuple):
    """What a call needs of a model; `context` is in tokens, rounded up so that few different ones occur."""

    level: Level
    task_type: TaskType
    vision: bool = False
    tools: bool = False
    context: int = 0
    kinds: tuple[str, ...] = ()
    server: str = ""
    coder: bool = False


@dataclass(slots=True, eq=False)
class Shortlist:
    """For one fleet. `lives` are the live records by server."""

    fleet: Fleet
    lives: Mapping[str, ServerLoad]
    signals: tuple[Signal, ...]
    preferences: Preferences
    able: Mapping[str, bool]  # by kind: whether it converses at all
    _named: dict[tuple[object, ...], Group] = field(default_factory=dict)
    _wanted: dict[Wanted, tuple[tuple[Group, ...], tuple[Group, ...]]] = field(default_factory=dict)
    _models: dict[str, tuple[Deployment, ...]] | None = None

    def known(self, key: tuple[object, ...]) -> Group | None:
        """The choices that `named` has worked out for this fleet."""
        return self._named.get(key)

    def named(self, key: tuple[object, ...], deployments: tuple[Deployment, ...]) -> Group:
        """The choices for what was asked for by name; `key` stands for these deployments as long as the fleet does."""
        group = self._named.get(key)
        if group is None:
            if len(self._named) >= MOST_NAMES:
                self._named.clear()
            group = self._named[key] = self._group(deployments)
        return group

    def choices(self, deployments: Iterable[Deployment]) -> tuple[Choice, ...]:
        """Choices by themselves."""
        return tuple(self._choice(deployment, 0.0, 0, "") for deployment in deployments)

    def wanted(self, wanted: Wanted) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Groups that fit, and lesser ones; both best fit first."""
        found = self._wanted.get(wanted)
        if found is None:
            found = self._wanted[wanted] = self._weigh(wanted)
        return found

    def _weigh(self, wanted: Wanted) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        fitting: list[Group] = []
        lesser: list[Group] = []
        listed = bool(self.preferences.task_types.get(wanted.task_type) or self.preferences.levels.get(wanted.level))
        for deployments in self.models().values():
            model = deployments[0].model
            kind = class_of(model)
            suited = tuple(deployment for deployment in deployments if self._suits(deployment, kind, wanted))
            if not suited or "chat" not in kind.strengths:
                continue
            fits = enough(kind, wanted.level, wanted.task_type)
            if listed and self.preferences.place(model, wanted.level, wanted.task_type) is not None:
                fits = True
            misfit = 1.0 - self.preferences.fit(model, wanted.level, wanted.task_type)
            group = self._group(suited, misfit, 0 if fits else LESSER, kind.word)
            (fitting if fits else lesser).append(group)
        order = attrgetter("least")
        return tuple(sorted(fitting, key=order)), tuple(sorted(lesser, key=order))

    def _suits(self, deployment: Deployment, kind: ModelClass, wanted: Wanted) -> bool:
        model, server = deployment.model, deployment.server
        if (wanted.kinds and server.kind not in wanted.kinds) or (wanted.server and server.name != wanted.server):
            return False
        if wanted.coder and "coder" not in kind.strengths:
            return False
        if wanted.vision and "vision" not in kind.strengths:
            return False
        if wanted.tools and model.capabilities and "tools" not in model.capabilities:
            return False
        return not (wanted.context and model.context_length) or wanted.context <= model.context_length

    def models(self) -> Mapping[str, tuple[Deployment, ...]]:
        """Every model that converses, by the name of its own, and where it is."""
        if self._models is None:
            found: dict[str, dict[tuple[str, str], Deployment]] = {}
            for deployments in self.fleet.deployments.values():
                for deployment in deployments:
                    if self.able.get(deployment.server.kind) and "agent" not in deployment.model.capabilities:
                        name = deployment.model.name.lower().removesuffix(":latest")
                        found.setdefault(name, {})[deployment.server.name, deployment.model.name] = deployment
            self._models = {name: tuple(found[name].values()) for name in sorted(found)}
        return self._models

    def _group(self, deployments: tuple[Deployment, ...], misfit: float = 0.0, tier: int = 0, word: str = "") -> Group:
        choices = [self._choice(deployment, misfit, tier, word) for deployment in deployments]
        held: list[Choice] = []
        rest: list[Choice] = []
        least = float("inf")
        for choice in choices:
            deployment = choice.deployment
            if deployment.is_up and (deployment.model.loaded or not deployment.on_demand):
                held.append(choice)
                least = min(least, choice.fixed)
            else:
                rest.append(choice)
                least = min(least, choice.fixed + choice.rates.load_seconds)
        count = len(choices)
        words = "the only server with the model" if count == 1 else f"the best of {count} servers with the model"
        fixed = min((choice.fixed for choice in choices), default=0.0)
        return Group(least, fixed, tuple(held), tuple(rest), words)

    def _choice(self, deployment: Deployment, misfit: float, tier: int, word: str) -> Choice:
        server, model = deployment.server, deployment.model
        live = self.lives.get(server.name) or ServerLoad()
        rates = live.throughputs.get(model.name)
        if rates is None:
            rates = ModelThroughput(live.speed_factor, class_of(model).billions, model.size)
            if len(live.throughputs) < MOST_NAMES:  # work on models may name any
                live.throughputs[model.name] = rates
        if server.priority is Priority.FALLBACK:
            tier += RESERVE
        if not deployment.is_up:
            tier += AWAY
        choice = Choice(deployment, live, rates, 0.0, tier, misfit, word)
        rates.update_estimates()
        still = Situation(0.0, deployment, live, rates, misfit=misfit)
        choice.fixed = sum(signal.cost(still) for signal in self.signals if signal.fixed)
        return choice
