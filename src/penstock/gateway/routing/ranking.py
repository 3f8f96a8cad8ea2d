"""Weighs choices: what each would cost a call at this moment, in seconds, and in which order they come."""

import random
from collections import OrderedDict
from collections.abc import Iterable

from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Reason
from penstock.gateway.routing.candidate_index import AWAY, Choice
from penstock.gateway.routing.costs.base import Signal, Situation

BYTES_PER_TOKEN = 4
MOST_PROMPT = 32_768
"""Tokens that a body is taken for at most: what is longer is mostly images, as text."""
MOST_SESSIONS = 10_000
BANDS = 10
"""Costs are told apart by this part of a second: what is below is chance, and an idle twin should have its share."""


class Scales:
    """Weighs by signals. Remembers which server last had a session, for its prompt's sake."""

    def __init__(self, signals: tuple[Signal, ...], chance: random.Random) -> None:
        self.chance = chance
        self._signals = signals
        self._always = [signal.cost for signal in signals if not (signal.fixed or signal.rare)]
        self._rare = [signal.cost for signal in signals if signal.rare]
        self._waits = [signal.cost for signal in signals if signal.waits]
        self._sessions: OrderedDict[bytes, str] = OrderedDict()

    def ranked(self, choices: Iterable[Choice], call: Call, now: float, explain: bool = False) -> tuple[Candidate, ...]:
        """Candidates, best first: lower tiers, then lower costs; of those that cost about the same the one with the
        least to do, then the one asked longest ago."""
        prompt, most = prompt_of(call), call.max_tokens
        familiar = self._sessions.get(call.session) if call.session else None
        always, rare = self._always, self._rare
        situation: Situation | None = None
        weighed = []
        for at, choice in enumerate(choices):
            deployment, live = choice.deployment, choice.live
            if situation is None:
                situation = Situation(now, deployment, live, choice.rates, True, prompt, most)
            situation.deployment, situation.live, situation.rates = deployment, live, choice.rates
            situation.resident = not deployment.on_demand or deployment.model.name in live.residency.models
            cost, tier = choice.fixed, choice.tier
            for cost_of in always:
                cost += cost_of(situation)
            if live.last_failed_at or familiar is not None or live.traffic_share is not None:
                situation.familiar = familiar == deployment.server.name
                for cost_of in rare:
                    cost += cost_of(situation)
                if live.traffic_share is not None and live.traffic_share(deployment.model.name, now) <= 0.0:
                    tier += AWAY
            reasons = self._reasons(choice, situation) if explain else ()
            band = int(cost * BANDS)
            weighed.append(
                (tier, band, live.running / deployment.slots, live.last_call_number, at, cost, choice, reasons)
            )
        weighed.sort()
        return tuple([Candidate(one[6].deployment, one[5], one[0], one[7], "", one[6].word) for one in weighed])

    def begins_in(self, choice: Choice, call: Call, now: float) -> float:
        """Seconds until the first token is to be expected."""
        deployment, live = choice.deployment, choice.live
        resident = not deployment.on_demand or deployment.model.name in live.residency.models
        situation = Situation(now, deployment, live, choice.rates, resident, prompt_of(call), call.max_tokens)
        return sum(cost_of(situation) for cost_of in self._waits)

    def note(self, session: bytes, server: str) -> None:
        """The session's last call went to this server."""
        self._sessions[session] = server
        self._sessions.move_to_end(session)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _reasons(self, choice: Choice, situation: Situation) -> tuple[Reason, ...]:
        situation.misfit = choice.misfit
        return tuple(Reason(signal.name, signal.cost(situation), signal.words(situation)) for signal in self._signals)


def prompt_of(call: Call) -> int:
    """About how many tokens a call sends."""
    if call.profile is not None:
        return call.profile.context_tokens
    return min(len(call.body) // BYTES_PER_TOKEN, MOST_PROMPT)
