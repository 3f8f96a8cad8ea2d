"""Which deployments may answer a call: filter by what was asked, score what is left, put the best first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter

from penstock.domain.call import Call, Operation
from penstock.domain.decision import Candidate, Decision, Reason
from penstock.domain.errors import LlmDisabled
from penstock.domain.fleet import Deployment, Fleet, Model
from penstock.gateway.routing import missing
from penstock.gateway.routing.missing import having
from penstock.gateway.routing.signals.base import Signal, Situation

SituationOf = Callable[[str], Situation]
"""The situation of a server by its name, at the moment of the decision."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What settings say of routing. `mode` is LLM_MODE; `model` answers where none is asked for.

    `chain` is the order of kinds that agent chat asks. `mismatch` is set when LLM_MODEL and VLLM_MODEL differ: the
    cause to name when a model is missing.
    """

    mode: str = "ollama"
    model: str = "llama3.1:8b"
    mismatch: str = ""
    chain: tuple[str, ...] = ("victoria", "mlx")


class Router:
    """filter → score → pick. `operations` tells what each kind of engine can do."""

    def __init__(
        self, policy: Policy, signals: tuple[Signal, ...], operations: Mapping[str, frozenset[Operation]]
    ) -> None:
        self.policy = policy
        self._signals = signals
        self._weights = [(signal.weight, signal.score) for signal in signals]
        self._operations = operations
        self._settled: dict[str, Decision] = {}
        self._settled_for = -1

    def decide(self, fleet: Fleet, call: Call, situation: SituationOf, explain: bool = False) -> Decision:
        """The candidates for a call, best first. Raises ModelNotFound, NoServer, Unsupported or LlmDisabled."""
        if fleet.version != self._settled_for:
            self._settled_for = fleet.version
            self._settled.clear()
        if call.operation is Operation.CHAT and not (call.kinds or call.server or call.defaults or explain):
            settled = self._settled.get(call.model)
            if settled is not None:
                return settled
        return self._decide(fleet, call, situation, explain)

    def _decide(self, fleet: Fleet, call: Call, situation: SituationOf, explain: bool) -> Decision:
        if self.policy.mode == "none" and call.operation is not Operation.MANAGE:
            raise LlmDisabled("the language model is turned off (LLM_MODE=none); set LLM_MODE to ollama or vllm")
        if call.operation is Operation.AGENT:
            kinds = tuple(kind for kind in self.policy.chain if kind in call.kinds) or call.kinds
            return self._in_order(self._agents(fleet, call, kinds), kinds)
        if call.operation is Operation.MANAGE:
            return Decision(self.rank(self._managed(fleet, call), situation, explain), "the server for this")
        if call.automatic:
            return self._default(fleet, call, situation, explain)
        found = self._able(call, having(fleet, call.model))
        if call.defaults and self.policy.mode == "vllm":
            return self._vllm_first(fleet, call, found, situation, explain)
        if not found:
            raise missing.error(fleet, call, self.policy.mismatch)
        decision = Decision(self.rank(found, situation, explain), _reason(found))
        if len(found) == 1 and call.operation is Operation.CHAT and not (call.kinds or call.server or explain):
            self._settled[call.model] = decision  # one server has it: the same decision until the fleet changes
        return decision

    def rank(
        self, found: tuple[Deployment, ...], situation: SituationOf, explain: bool = False
    ) -> tuple[Candidate, ...]:
        """Score and sort, the best first; equals keep their order."""
        if len(found) == 1 and not explain:
            return (Candidate(found[0], 1.0),)
        ranked = []
        for deployment in found:
            here = situation(deployment.server.name)
            score = 0.0
            for weight, score_of in self._weights:
                score += weight * score_of(deployment, here)
            ranked.append(Candidate(deployment, score, self._reasons(deployment, here) if explain else ()))
        ranked.sort(key=_score, reverse=True)
        return tuple(ranked)

    def _reasons(self, deployment: Deployment, here: Situation) -> tuple[Reason, ...]:
        return tuple(
            Reason(signal.name, signal.score(deployment, here), signal.words(deployment, here))
            for signal in self._signals
        )

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
        """Every model that may converse, loaded and small ones first."""
        wanted = "embedding" if call.operation is Operation.EMBEDDING else "completion"
        deployments = dict.fromkeys(
            deployment
            for group in fleet.deployments.values()
            for deployment in group
            if deployment.up
            and "agent" not in deployment.model.capabilities
            and (not deployment.model.capabilities or wanted in deployment.model.capabilities)
        )
        able = self._able(call, tuple(deployments))
        return tuple(sorted(able, key=lambda d: (not d.model.loaded, d.model.size or 1 << 60, d.model.name)))

    def _default(self, fleet: Fleet, call: Call, situation: SituationOf, explain: bool) -> Decision:
        """No model named: LLM_MODEL where it is; else whatever can answer, with a warning."""
        wanted = replace(call, model=self.policy.model)
        found = self._able(call, having(fleet, wanted.model))
        if self.policy.mode == "vllm":
            return self._vllm_first(fleet, wanted, found, situation, explain)
        if any(deployment.up for deployment in found):
            return Decision(self.rank(found, situation, explain), "LLM_MODEL")
        others = self._anything(fleet, call)
        if not others:
            raise missing.error(fleet, wanted, self.policy.mismatch)
        named = others[0].model.name
        same = tuple(deployment for deployment in others if deployment.model.name == named)
        rest = tuple(deployment for deployment in others if deployment.model.name != named)
        away = f"LLM_MODEL {wanted.model} is on no server that is up"
        then = tuple(Candidate(other, 0.0, warning=f"{away}; {other.model.name} answered") for other in rest)
        candidates = self.rank(same, situation, explain) + then
        reason = "no model asked for and LLM_MODEL is not there"
        return Decision(candidates, reason, f"{away}; {named} answered", fallback=True)

    def _vllm_first(
        self, fleet: Fleet, call: Call, found: tuple[Deployment, ...], situation: SituationOf, explain: bool
    ) -> Decision:
        """LLM_MODE=vllm: vLLM's servers, then the Ollama pool: the same model there, else any."""
        first = tuple(deployment for deployment in found if deployment.server.kind == "vllm" and deployment.up)
        pool = tuple(d for d in (*found, *self._anything(fleet, call)) if d.server.kind == "ollama")
        told = "vLLM cannot answer; {} of the Ollama pool answered"
        then = tuple(Candidate(d, 0.0, warning=told.format(d.model.name)) for d in dict.fromkeys(pool))
        if first:
            return Decision(self.rank(first, situation, explain) + then, "LLM_MODE=vllm")
        if not then:
            if found:
                return Decision(self.rank(found, situation, explain), _reason(found))
            raise missing.error(fleet, call, self.policy.mismatch)
        return Decision(then, "vLLM is away", then[0].warning, fallback=True)

    def _agents(self, fleet: Fleet, call: Call, kinds: tuple[str, ...]) -> tuple[Deployment, ...]:
        """Of each agent or agent's reserve one deployment: the model asked for, else a loaded one, else the first."""
        chosen = []
        for status in fleet.statuses:
            if status.server.kind not in kinds or not status.up or not status.models:
                continue
            wanted = call.model.lower()
            models = sorted(status.models, key=lambda m: (m.name.lower() != wanted, not m.loaded))
            chosen.append(Deployment(status.server, models[0], status.url or status.server.url, 1))
        if not chosen:
            raise missing.no_server(fleet, kinds)
        return tuple(chosen)

    def _in_order(self, found: tuple[Deployment, ...], kinds: tuple[str, ...]) -> Decision:
        ordered = sorted(found, key=lambda deployment: kinds.index(deployment.server.kind))
        fallback = ordered[0].server.kind != kinds[0]
        return Decision(tuple(Candidate(d, 1.0) for d in ordered), "the chain of agents", fallback=fallback)

    def _managed(self, fleet: Fleet, call: Call) -> tuple[Deployment, ...]:
        """Servers for work on models: the one named, else those that have the model, else any that can."""
        able = [
            status
            for status in fleet.statuses
            if status.up
            and call.operation in self._operations.get(status.server.kind, ())
            and (not call.kinds or status.server.kind in call.kinds)
            and (not call.server or status.server.name == call.server)
        ]
        if not able:
            raise missing.no_server(fleet, call.kinds, call.server)
        names = {deployment.server.name for deployment in having(fleet, call.model)}
        best = [status for status in able if status.server.name in names] or able
        model = Model(call.model)
        return tuple(Deployment(s.server, model, s.url or s.server.url, s.slots or 1) for s in best)


_score = attrgetter("score")


def _reason(found: tuple[Deployment, ...]) -> str:
    return "the only server with the model" if len(found) == 1 else f"the best of {len(found)} servers with the model"
