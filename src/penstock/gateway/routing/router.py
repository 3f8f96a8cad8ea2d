"""Router: filters the deployments that are able to take a call, ranks them by cost in seconds, and explains why.

Routing reads the fleet, the live state of its servers and the session memory, and changes none of them; the clock is
passed in. Its own state is a cache for the current fleet snapshot.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from penstock.domain.errors import LlmDisabled
from penstock.domain.fleet import Deployment, Fleet
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.routing import unroutable
from penstock.gateway.routing.candidate_index import MAX_NAMES, CandidateIndex, ModelGroup
from penstock.gateway.routing.costs.base import Cost
from penstock.gateway.routing.filters import DeploymentFilter, select_agents
from penstock.gateway.routing.model_selection import ModelSelector
from penstock.gateway.routing.policy import Policy
from penstock.gateway.routing.ranking import Ranker
from penstock.gateway.routing.session_affinity import SessionAffinity

_NO_FLEET = Fleet(version=-1)


class Router:
    """Decides where calls go: filter, rank, pick. `operations` are those of each engine kind.

    `session_affinity` is read for every call with a session; the pipeline records into it.
    """

    def __init__(
        self,
        policy: Policy,
        costs: tuple[Cost, ...],
        operations: Mapping[str, frozenset[Operation]],
        rng: random.Random | None = None,
    ) -> None:
        self.policy = policy
        self.session_affinity = SessionAffinity()
        self._costs = costs
        self._can_chat = {kind: Operation.CHAT in supported for kind, supported in operations.items()}
        self._filter = DeploymentFilter(operations)
        rng = rng or random.Random()  # noqa: S311 (sampling, not a secret)
        self._ranker = Ranker(costs, self.session_affinity, rng)
        self._selector = ModelSelector(self._ranker)
        self._index = self._build_index(_NO_FLEET, {})
        self._single_decisions: dict[str, Decision] = {}

    def decide(
        self, fleet: Fleet, call: Call, loads: Mapping[str, ServerLoad], now: float, explain: bool = False
    ) -> Decision:
        """Return the candidates for a call, best first; with their reasons if `explain` is set.

        `loads` is the live state of the servers by name. Raises ModelNotFound, NoServer, Unsupported, WaitTooLong,
        ContextLengthExceeded or LlmDisabled.
        """
        if fleet.deployments is not self._index.fleet.deployments:
            self._single_decisions.clear()
            self._index = self._build_index(fleet, loads)
        if call.operation is Operation.CHAT and not (call.kinds or call.server or call.use_defaults or explain):
            decision = self._single_decisions.get(call.model)
            if decision is not None and call.max_wait is None:
                return decision
        return self._decide_uncached(fleet, call, now, explain)

    def should_select_model(self, fleet: Fleet, call: Call) -> bool:
        """Return whether the gateway selects the model by complexity; then `call.profile` must be set first."""
        if not call.is_automatic or call.operation not in (Operation.CHAT, Operation.COMPLETION):
            return False
        policy = self.policy
        if policy.mode == "none" or (policy.mode == "vllm" and call.use_defaults):
            return False
        if ":" in call.model:
            return True  # auto:fast and the like
        if policy.distributed and sum(self._can_chat.get(s.server.kind, False) for s in fleet.statuses) > 1:
            return True
        return not any(d.is_up for d in self._filter.keep_able(call, fleet.find_deployments(policy.model)))

    def clear_cache(self) -> None:
        """Forget the current fleet. Must be called after a change of `policy`."""
        self._index = self._build_index(_NO_FLEET, {})

    def _build_index(self, fleet: Fleet, loads: Mapping[str, ServerLoad]) -> CandidateIndex:
        return CandidateIndex(fleet, loads, self._costs, self.policy.preferences, self._can_chat)

    def _decide_uncached(self, fleet: Fleet, call: Call, now: float, explain: bool) -> Decision:
        self._index.fleet = fleet  # same deployments, newer statuses
        if self.policy.mode == "none" and call.operation is not Operation.MANAGE:
            raise LlmDisabled("The language model is turned off (LLM_MODE=none). Set LLM_MODE to ollama or vllm.")
        if call.operation is Operation.AGENT:
            return self._decide_agent_chain(fleet, call)
        if call.operation is Operation.MANAGE:
            candidates = self._rank_deployments(self._filter.select_managed(fleet, call), call, now, explain)
            return Decision(candidates, "the server for this")
        if call.is_automatic:
            if call.profile is not None:
                return self._selector.select_model(self._index, call, call.profile, now, explain)
            return self._decide_default(fleet, call, now, explain)
        is_vllm_first = call.use_defaults and self.policy.mode == "vllm"
        group = self._index.find_named_group(call)
        if group is not None and call.max_wait is None and not is_vllm_first:
            return self._rank_group(group, call, now, explain)
        deployments = self._filter.keep_able(call, fleet.find_deployments(call.model))
        if is_vllm_first:
            return self._decide_vllm_first(fleet, call, deployments, now, explain)
        if not deployments:
            raise unroutable.build_error(fleet, call, self.policy.mismatch)
        return self._decide_by_name(call, deployments, now, explain)

    def _decide_by_name(self, call: Call, deployments: tuple[Deployment, ...], now: float, explain: bool) -> Decision:
        """Select the server for a model that the call names."""
        if call.max_wait is not None:
            self._selector.check_wait(self._index, call, deployments, now)
        group = self._index.find_named_group(call) or self._index.add_named_group(call, deployments)
        if len(deployments) > 1 or explain:
            return self._rank_group(group, call, now, explain)
        decision = Decision((Candidate(deployments[0]),), "the only server with the model")
        if call.operation is Operation.CHAT and not (call.kinds or call.server):
            if len(self._single_decisions) >= MAX_NAMES:
                self._single_decisions.clear()
            self._single_decisions[call.model] = decision  # valid until the fleet changes
        return decision

    def _decide_default(self, fleet: Fleet, call: Call, now: float, explain: bool) -> Decision:
        """Use LLM_MODEL if a server that is up has it, else any model that can answer, with a warning."""
        call_for_default = replace(call, model=self.policy.model)
        deployments = self._filter.keep_able(call, fleet.find_deployments(self.policy.model))
        if self.policy.mode == "vllm":
            return self._decide_vllm_first(fleet, call_for_default, deployments, now, explain)
        if any(deployment.is_up for deployment in deployments):
            return Decision(self._rank_deployments(deployments, call, now, explain), "LLM_MODEL")
        others = self._filter.list_any(fleet, call)
        if not others:
            raise unroutable.build_error(fleet, call_for_default, self.policy.mismatch)
        substitute = others[0].model.name
        same_model = tuple(deployment for deployment in others if deployment.model.name == substitute)
        other_models = tuple(deployment for deployment in others if deployment.model.name != substitute)
        missing = f"LLM_MODEL {self.policy.model} is on no server that is up"
        spares = tuple(Candidate(d, warning=f"{missing}; {d.model.name} answered") for d in other_models)
        candidates = self._rank_deployments(same_model, call, now, explain) + spares
        reason = "no model asked for and LLM_MODEL is not there"
        return Decision(candidates, reason, f"{missing}; {substitute} answered", fallback=True)

    def _decide_vllm_first(
        self, fleet: Fleet, call: Call, deployments: tuple[Deployment, ...], now: float, explain: bool
    ) -> Decision:
        """Use vLLM servers, then the Ollama pool (LLM_MODE=vllm): the same model there, then any other."""
        on_vllm = tuple(d for d in deployments if d.server.kind == "vllm" and d.is_up)
        pool = {
            (deployment.server.name, deployment.model.name): deployment
            for deployment in (*deployments, *self._filter.list_any(fleet, call))
            if deployment.server.kind == "ollama"
        }
        spares = tuple(
            Candidate(d, warning=f"vLLM cannot answer; {d.model.name} of the Ollama pool answered")
            for d in pool.values()
        )
        if on_vllm:
            return Decision(self._rank_deployments(on_vllm, call, now, explain) + spares, "LLM_MODE=vllm")
        if spares:
            return Decision(spares, "vLLM is away", spares[0].warning, fallback=True)
        if deployments:
            return self._decide_by_name(call, deployments, now, explain)
        raise unroutable.build_error(fleet, call, self.policy.mismatch)

    def _decide_agent_chain(self, fleet: Fleet, call: Call) -> Decision:
        """Use the agent servers in the order of the policy's chain."""
        kinds = tuple(kind for kind in self.policy.chain if kind in call.kinds) or call.kinds
        agents = select_agents(fleet, call, kinds)
        is_fallback = agents[0].server.kind != kinds[0]
        return Decision(tuple(Candidate(d) for d in agents), "the chain of agents", fallback=is_fallback)

    def _rank_group(self, group: ModelGroup, call: Call, now: float, explain: bool) -> Decision:
        sample = group.sample(self._ranker.rng)
        return Decision(self._ranker.rank_deployments(sample, call, now, explain), group.reason)

    def _rank_deployments(
        self, deployments: Iterable[Deployment], call: Call, now: float, explain: bool
    ) -> tuple[Candidate, ...]:
        return self._ranker.rank_deployments(self._index.score_deployments(deployments), call, now, explain)
