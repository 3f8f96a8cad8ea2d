"""Which deployments may answer a call: filter by what was asked, weigh what is left in seconds, put the best first.

Pure: the fleet, the call, the live records and the time go in; a decision with every candidate's costs comes out. The
only memory is what has been worked out for the present fleet, and which server last had a session.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from penstock.domain.errors import LlmDisabled
from penstock.domain.fleet import Deployment, Fleet, Model
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.fleet.catalog import ServerLoad
from penstock.gateway.routing import unroutable
from penstock.gateway.routing.candidate_index import MAX_NAMES, CandidateIndex, ModelGroup
from penstock.gateway.routing.costs.base import Cost
from penstock.gateway.routing.model_profile import Preferences
from penstock.gateway.routing.model_selection import ModelSelector
from penstock.gateway.routing.ranking import Ranker
from penstock.gateway.routing.unroutable import find_deployments

Lives = Mapping[str, ServerLoad]
"""The live records of servers by name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What settings say of routing. `mode` is LLM_MODE; `model` answers where none is asked for.

    `chain` is the order of kinds that agent chat asks. `mismatch` is set when LLM_MODEL and VLLM_MODEL differ: the
    cause to name when a model is missing. `distributed`: where no model is asked for, several servers choose by
    complexity. `preferences` are the settings' lists.
    """

    mode: str = "ollama"
    model: str = "llama3.1:8b"
    mismatch: str = ""
    chain: tuple[str, ...] = ("victoria", "mlx")
    distributed: bool = True
    preferences: Preferences = field(default_factory=Preferences)


class Router:
    """filter → weigh → pick. `operations` tells what each kind of engine can do."""

    def __init__(
        self,
        policy: Policy,
        signals: tuple[Cost, ...],
        operations: Mapping[str, frozenset[Operation]],
        chance: random.Random | None = None,
    ) -> None:
        self.policy = policy
        self.ranker = Ranker(signals, chance or random.Random())  # noqa: S311 (a draw, no secret)
        self._costs = signals
        self._operations = operations
        self._can_chat = {kind: Operation.CHAT in able for kind, able in operations.items()}
        self._selector = ModelSelector(self.ranker)
        self._single_decisions: dict[str, Decision] = {}
        self._index = CandidateIndex(Fleet(version=-1), {}, signals, policy.preferences, self._can_chat)

    def decide(self, fleet: Fleet, call: Call, loads: Lives, now: float, explain: bool = False) -> Decision:
        """The candidates for a call, best first. Raises ModelNotFound, NoServer, Unsupported, WaitTooLong,
        ContextLengthExceeded or LlmDisabled."""
        if fleet.deployments is not self._index.fleet.deployments:
            self._rebuild_index(fleet, loads)
        if call.operation is Operation.CHAT and not (call.kinds or call.server or call.use_defaults or explain):
            settled = self._single_decisions.get(call.model)
            if settled is not None and call.max_wait is None:
                return settled
        return self._decide_uncached(fleet, call, now, explain)

    def should_select_model(self, fleet: Fleet, call: Call) -> bool:
        """Whether the model is to be chosen by how hard the call is, so that it must be read: see `Call.ask`."""
        if not call.is_automatic or call.operation not in (Operation.CHAT, Operation.COMPLETION):
            return False
        policy = self.policy
        if policy.mode == "none" or (policy.mode == "vllm" and call.use_defaults):
            return False
        if ":" in call.model:
            return True  # auto:fast and the like
        if policy.distributed and sum(self._can_chat.get(s.server.kind, False) for s in fleet.statuses) > 1:
            return True
        return not any(deployment.is_up for deployment in self._able(call, find_deployments(fleet, policy.model)))

    def clear_cache(self) -> None:
        """Work everything out anew: settings have changed."""
        self._index = CandidateIndex(Fleet(version=-1), {}, self._costs, self.policy.preferences, self._can_chat)

    def _rebuild_index(self, fleet: Fleet, lives: Lives) -> None:
        self._single_decisions.clear()
        self._index = CandidateIndex(fleet, lives, self._costs, self.policy.preferences, self._can_chat)

    def _decide_uncached(self, fleet: Fleet, call: Call, now: float, explain: bool) -> Decision:
        self._index.fleet = fleet  # the same deployments, newer words about them
        if self.policy.mode == "none" and call.operation is not Operation.MANAGE:
            raise LlmDisabled("the language model is turned off (LLM_MODE=none); set LLM_MODE to ollama or vllm")
        if call.operation is Operation.AGENT:
            kinds = tuple(kind for kind in self.policy.chain if kind in call.kinds) or call.kinds
            return _in_order(self._agents(fleet, call, kinds), kinds)
        if call.operation is Operation.MANAGE:
            return Decision(
                self._rank_deployments(self._managed(fleet, call), call, now, explain), "the server for this"
            )
        if call.is_automatic:
            if call.profile is not None:
                return self._selector.select_model(self._index, call, call.profile, now, explain)
            return self._decide_default(fleet, call, now, explain)
        key = (call.model, call.operation.value, call.kinds, call.server)
        group = self._index.known(key)
        if group is not None and call.max_wait is None and not (call.use_defaults and self.policy.mode == "vllm"):
            return self._rank_group(group, call, now, explain)
        found = self._able(call, find_deployments(fleet, call.model))
        if call.use_defaults and self.policy.mode == "vllm":
            return self._decide_vllm_first(fleet, call, found, now, explain)
        if not found:
            raise unroutable.build_error(fleet, call, self.policy.mismatch)
        return self._decide_by_name(call, found, now, explain)

    def _decide_by_name(self, call: Call, found: tuple[Deployment, ...], now: float, explain: bool) -> Decision:
        """The model is named: only the server is chosen."""
        if call.max_wait is not None:
            self._selector.check_wait(self._index, call, found, now)
        key = (call.model, call.operation.value, call.kinds, call.server)
        group = self._index.named(key, found)
        if len(found) > 1 or explain:
            return self._rank_group(group, call, now, explain)
        decision = Decision((Candidate(found[0]),), "the only server with the model")
        if call.operation is Operation.CHAT and not (call.kinds or call.server):
            if len(self._single_decisions) >= MAX_NAMES:
                self._single_decisions.clear()
            self._single_decisions[call.model] = (
                decision  # one server has it: the same decision until the fleet changes
            )
        return decision

    def _rank_group(self, group: ModelGroup, call: Call, now: float, explain: bool) -> Decision:
        """The servers of one model, weighed."""
        return Decision(self.ranker.rank_deployments(group.sample(self.ranker.rng), call, now, explain), group.reason)

    def _rank_deployments(
        self, found: Iterable[Deployment], call: Call, now: float, explain: bool = False
    ) -> tuple[Candidate, ...]:
        return self.ranker.rank_deployments(self._index.score_deployments(found), call, now, explain)

    def _able(self, call: Call, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """Those that the call's own restrictions and the kind of work leave."""
        operation, kinds, server = call.operation, call.kinds, call.server
        if not kinds and not server and len(deployments) == 1:
            return deployments
        return tuple(
            deployment
            for deployment in deployments
            if (not kinds or deployment.server.kind in kinds)
            and (not server or deployment.server.name == server)
            and (operation in self._operations[deployment.server.kind] or operation is Operation.COUNT)
        )

    def _anything(self, fleet: Fleet, call: Call) -> tuple[Deployment, ...]:
        """Every model that may do this kind of work, loaded and small ones first."""
        wanted = "embedding" if call.operation is Operation.EMBEDDING else "completion"
        deployments = {
            (deployment.server.name, deployment.model.name): deployment
            for group in fleet.deployments.values()
            for deployment in group
            if deployment.is_up
            and "agent" not in deployment.model.capabilities
            and (not deployment.model.capabilities or wanted in deployment.model.capabilities)
        }
        able = self._able(call, tuple(deployments.values()))
        return tuple(sorted(able, key=lambda d: (not d.model.is_loaded, d.model.size or 1 << 60, d.model.name)))

    def _decide_default(self, fleet: Fleet, call: Call, now: float, explain: bool) -> Decision:
        """No model named: LLM_MODEL where it is; else whatever can answer, with a warning."""
        wanted = replace(call, model=self.policy.model)
        found = self._able(call, find_deployments(fleet, wanted.model))
        if self.policy.mode == "vllm":
            return self._decide_vllm_first(fleet, wanted, found, now, explain)
        if any(deployment.is_up for deployment in found):
            return Decision(self._rank_deployments(found, call, now, explain), "LLM_MODEL")
        others = self._anything(fleet, call)
        if not others:
            raise unroutable.build_error(fleet, wanted, self.policy.mismatch)
        named = others[0].model.name
        same = tuple(deployment for deployment in others if deployment.model.name == named)
        rest = tuple(deployment for deployment in others if deployment.model.name != named)
        away = f"LLM_MODEL {wanted.model} is on no server that is up"
        then = tuple(Candidate(other, warning=f"{away}; {other.model.name} answered") for other in rest)
        candidates = self._rank_deployments(same, call, now, explain) + then
        reason = "no model asked for and LLM_MODEL is not there"
        return Decision(candidates, reason, f"{away}; {named} answered", fallback=True)

    def _decide_vllm_first(
        self, fleet: Fleet, call: Call, found: tuple[Deployment, ...], now: float, explain: bool
    ) -> Decision:
        """LLM_MODE=vllm: vLLM's servers, then the Ollama pool: the same model there, else any."""
        first = tuple(deployment for deployment in found if deployment.server.kind == "vllm" and deployment.is_up)
        pool = {
            (deployment.server.name, deployment.model.name): deployment
            for deployment in (*found, *self._anything(fleet, call))
            if deployment.server.kind == "ollama"
        }
        told = "vLLM cannot answer; {} of the Ollama pool answered"
        then = tuple(Candidate(d, warning=told.format(d.model.name)) for d in pool.values())
        if first:
            return Decision(self._rank_deployments(first, call, now, explain) + then, "LLM_MODE=vllm")
        if not then:
            if found:
                return self._decide_by_name(call, found, now, explain)
            raise unroutable.build_error(fleet, call, self.policy.mismatch)
        return Decision(then, "vLLM is away", then[0].warning, fallback=True)

    def _agents(self, fleet: Fleet, call: Call, kinds: tuple[str, ...]) -> tuple[Deployment, ...]:
        """Of each agent or agent's reserve one deployment: the model asked for, else a loaded one, else the first."""
        chosen = []
        for status in fleet.statuses:
            if status.server.kind not in kinds or not status.is_up or not status.models:
                continue
            wanted = call.model.lower()
            models = sorted(status.models, key=lambda m: (m.name.lower() != wanted, not m.is_loaded))
            chosen.append(Deployment(status.server, models[0], status.url or status.server.url, 1))
        if not chosen:
            raise unroutable.build_no_server_error(fleet, kinds)
        return tuple(chosen)

    def _managed(self, fleet: Fleet, call: Call) -> tuple[Deployment, ...]:
        """Servers for work on models: the one named, else those that have the model, else any that can."""
        able = [
            status
            for status in fleet.statuses
            if status.is_up
            and call.operation in self._operations.get(status.server.kind, ())
            and (not call.kinds or status.server.kind in call.kinds)
            and (not call.server or status.server.name == call.server)
        ]
        if not able:
            raise unroutable.build_no_server_error(fleet, call.kinds, call.server)
        names = {deployment.server.name for deployment in find_deployments(fleet, call.model)}
        best = [status for status in able if status.server.name in names] or able
        model = Model(call.model)
        return tuple(Deployment(s.server, model, s.url or s.server.url, s.slots or 1) for s in best)


def _in_order(found: tuple[Deployment, ...], kinds: tuple[str, ...]) -> Decision:
    ordered = sorted(found, key=lambda deployment: kinds.index(deployment.server.kind))
    fallback = ordered[0].server.kind != kinds[0]
    return Decision(tuple(Candidate(d) for d in ordered), "the chain of agents", fallback=fallback)
