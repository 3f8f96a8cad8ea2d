"""Weighs choices: what each would cost a call at this moment, in seconds, and in which order they come."""

import random
from collections import OrderedDict
from collections.abc import Iterable

from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Reason
from penstock.gateway.routing.candidate_index import AWAY, ScoredDeployment
from penstock.gateway.routing.costs.base import Cost, CostContext

BYTES_PER_TOKEN = 4
MAX_PROMPT_TOKENS = 32_768
"""Tokens that a body is taken for at most: what is longer is mostly images, as text."""
MAX_SESSIONS = 10_000
COST_BANDS_PER_SECOND = 10
"""Costs are told apart by this part of a second: what is below is chance, and an idle twin should have its share."""


class Ranker:
    """Weighs by signals. Remembers which server last had a session, for its prompt's sake."""

    def __init__(self, signals: tuple[Cost, ...], chance: random.Random) -> None:
        self.rng = chance
        self._costs = signals
        self._always = [signal.estimate for signal in signals if not (signal.is_fixed or signal.is_rare)]
        self._rare = [signal.estimate for signal in signals if signal.is_rare]
        self._waits = [signal.estimate for signal in signals if signal.is_wait]
        self._sessions: OrderedDict[bytes, str] = OrderedDict()

    def rank_deployments(
        self, choices: Iterable[ScoredDeployment], call: Call, now: float, explain: bool = False
    ) -> tuple[Candidate, ...]:
        """Candidates, best first: lower tiers, then lower costs; of those that cost about the same the one with the
        least to do, then the one asked longest ago."""
        prompt, most = estimate_prompt_tokens(call), call.max_tokens
        familiar = self._sessions.get(call.session) if call.session else None
        always, rare = self._always, self._rare
        situation: CostContext | None = None
        weighed = []
        for at, choice in enumerate(choices):
            deployment, live = choice.deployment, choice.load
            if situation is None:
                situation = CostContext(now, deployment, live, choice.throughput, True, prompt, most)
            situation.deployment, situation.load, situation.throughput = deployment, live, choice.throughput
            situation.is_loaded = not deployment.on_demand or deployment.model.name in live.residency.models
            cost, tier = choice.fixed_cost, choice.tier
            for cost_of in always:
                cost += cost_of(situation)
            if live.last_failed_at or familiar is not None or live.traffic_share is not None:
                situation.has_session = familiar == deployment.server.name
                for cost_of in rare:
                    cost += cost_of(situation)
                if live.traffic_share is not None and live.traffic_share(deployment.model.name, now) <= 0.0:
                    tier += AWAY
            reasons = self._explain_costs(choice, situation) if explain else ()
            band = int(cost * COST_BANDS_PER_SECOND)
            weighed.append(
                (tier, band, live.running / deployment.slots, live.last_call_number, at, cost, choice, reasons)
            )
        weighed.sort()
        return tuple([Candidate(one[6].deployment, one[5], one[0], one[7], "", one[6].size_class) for one in weighed])

    def estimate_first_token(self, choice: ScoredDeployment, call: Call, now: float) -> float:
        """Seconds until the first token is to be expected."""
        deployment, live = choice.deployment, choice.load
        resident = not deployment.on_demand or deployment.model.name in live.residency.models
        situation = CostContext(
            now, deployment, live, choice.throughput, resident, estimate_prompt_tokens(call), call.max_tokens
        )
        return sum(cost_of(situation) for cost_of in self._waits)

    def note(self, session: bytes, server: str) -> None:
        """The session's last call went to this server."""
        self._sessions[session] = server
        self._sessions.move_to_end(session)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def _explain_costs(self, choice: ScoredDeployment, situation: CostContext) -> tuple[Reason, ...]:
        situation.misfit = choice.misfit
        return tuple(
            Reason(signal.name, signal.estimate(situation), signal.describe(situation)) for signal in self._costs
        )


def estimate_prompt_tokens(call: Call) -> int:
    """About how many tokens a call sends."""
    if call.profile is not None:
        return call.profile.context_tokens
    return min(len(call.body) // BYTES_PER_TOKEN, MAX_PROMPT_TOKENS)
