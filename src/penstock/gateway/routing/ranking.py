"""Ranking: adds up the costs of each deployment for a call at this moment, in seconds, and sorts by them."""

import random
from collections.abc import Iterable

from penstock.domain.request import BYTES_PER_TOKEN, Call
from penstock.domain.routing_decision import Candidate, Reason
from penstock.gateway.routing.candidate_index import ScoredDeployment
from penstock.gateway.routing.costs.base import Cost, CostContext
from penstock.gateway.routing.session_affinity import SessionAffinity

MAX_PROMPT_TOKENS = 32_768
"""Limit of the estimate from a body's size. Most of a longer body is images in base64."""
COST_BANDS_PER_SECOND = 10
"""Costs that differ by less than 0.1 s are equal: ties go to the less busy server."""


class Ranker:
    """Ranks deployments by the sum of `costs`. Reads `session_affinity` for the server of a call's session.

    `rng` samples groups that are too large to rank as a whole.
    """

    def __init__(self, costs: tuple[Cost, ...], session_affinity: SessionAffinity, rng: random.Random) -> None:
        self.rng = rng
        self._costs = costs
        self._session_affinity = session_affinity
        self._usual = [cost.estimate for cost in costs if not (cost.is_fixed or cost.is_rare)]
        self._rare = [cost.estimate for cost in costs if cost.is_rare]
        self._waits = [cost.estimate for cost in costs if cost.is_wait]

    def rank_deployments(
        self, deployments: Iterable[ScoredDeployment], call: Call, now: float, explain: bool = False, warning: str = ""
    ) -> tuple[Candidate, ...]:
        """Return candidates, best first. Each gets `warning`, and its reasons if `explain` is set.

        They are sorted by tier, then by cost. If costs are about equal, the server with the smallest share of its slots
        in use comes first, then the one that was used least recently.
        """
        session_server = self._session_affinity.find_server(call.session) if call.session else None
        usual, rare = self._usual, self._rare
        context: CostContext | None = None
        ranked = []
        for index, scored in enumerate(deployments):
            deployment, load, tier = scored.deployment, scored.load, scored.tier
            if context is None:
                context = CostContext(now, deployment, load, scored.throughput)
                context.prompt_tokens, context.max_tokens = estimate_prompt_tokens(call), call.max_tokens
            context.deployment, context.load, context.throughput = deployment, load, scored.throughput
            context.is_loaded = not deployment.on_demand or deployment.model.name in load.residency.models
            seconds = scored.fixed_cost
            for estimate in usual:
                seconds += estimate(context)
            if load.last_failed_at or session_server is not None or load.traffic_share is not None:
                context.has_session = session_server == deployment.server.name
                for estimate in rare:
                    seconds += estimate(context)
                if load.traffic_share is not None and load.traffic_share(deployment.model.name, now) <= 0.0:
                    tier = tier.as_unavailable
            reasons = self._explain_costs(scored, context) if explain else ()
            candidate = Candidate(deployment, seconds, tier, reasons, warning, scored.size_class)
            band = int(seconds * COST_BANDS_PER_SECOND)
            ranked.append((tier, band, load.running / deployment.slots, load.last_call_number, index, candidate))
        ranked.sort()  # `index` differs, so that candidates are never compared
        return tuple([candidate for _, _, _, _, _, candidate in ranked])

    def estimate_first_token(self, scored: ScoredDeployment, call: Call, now: float) -> float:
        """Return the expected seconds until the first token."""
        deployment, load = scored.deployment, scored.load
        context = CostContext(now, deployment, load, scored.throughput)
        context.is_loaded = not deployment.on_demand or deployment.model.name in load.residency.models
        context.prompt_tokens, context.max_tokens = estimate_prompt_tokens(call), call.max_tokens
        return sum(estimate(context) for estimate in self._waits)

    def _explain_costs(self, scored: ScoredDeployment, context: CostContext) -> tuple[Reason, ...]:
        context.misfit = scored.misfit
        return tuple(Reason(cost.name, cost.estimate(context), cost.describe(context)) for cost in self._costs)


def estimate_prompt_tokens(call: Call) -> int:
    """Estimate the tokens of a call's prompt: from its profile if it was read, else from the size of its body."""
    if call.profile is not None:
        return call.profile.context_tokens
    return min(len(call.body) // BYTES_PER_TOKEN, MAX_PROMPT_TOKENS)
