"""The choice of a model for a call that names none: what fits its level and kind, where it can begin soonest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ContextLengthExceeded, PenstockError, Unsupported, WaitTooLong
from penstock.domain.fleet import Deployment, Fleet
from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.routing import unroutable
from penstock.gateway.routing.candidate_index import (
    LESSER,
    SAMPLE_SIZE,
    CandidateIndex,
    ModelGroup,
    Requirements,
    ScoredDeployment,
)
from penstock.gateway.routing.ranking import COST_BANDS_PER_SECOND, Ranker

RUSSIAN_WARNING = "Используется упрощённая модель"
ENGLISH_WARNING = "A simplified model is being used"
MAX_LESSER_GROUPS = 8
LESSER_SAMPLE_SIZE = 4
"""Groups of lesser models that are weighed, and choices of each: enough for a fleet in ruins."""
MIN_FITTING = 4
"""Fitting candidates that need no lesser ones behind them."""
ANSWER_RESERVE_TOKENS = 512
"""Tokens of context kept free for an answer of unknown length."""
INFINITE = float("inf")
_LEVEL_BY_CLASS = {"fast": Level.TRIVIAL, "balanced": Level.MODERATE, "powerful": Level.COMPLEX}


class ModelSelector:
    """Chooses models; `scales` weigh where each may run."""

    def __init__(self, scales: Ranker) -> None:
        self._ranker = scales

    def select_model(
        self, shortlist: CandidateIndex, call: Call, ask: RequestProfile, now: float, explain: bool
    ) -> Decision:
        """Fitting models first, then lesser ones, which warn. Raises what tells that there is none."""
        wanted = _derive_requirements(call, ask)
        fitting, lesser = shortlist.find_groups(wanted)
        if wanted.needs_coder and not (fitting or lesser):
            wanted = wanted._replace(needs_coder=False)
            fitting, lesser = shortlist.find_groups(wanted)
        if not (fitting or lesser):
            raise _explain_no_model(shortlist, call, wanted)
        candidates = self._rank_fitting(fitting, call, now, explain)
        makeshift = not candidates or candidates[0].tier >= LESSER or call.max_wait is not None
        if makeshift or explain or len(candidates) < MIN_FITTING:
            candidates += self._rank_lesser(lesser if explain else lesser[:MAX_LESSER_GROUPS], call, now, explain)
            candidates.sort(key=_rank_key)
        warning = RUSSIAN_WARNING if ask.prefers_russian else ENGLISH_WARNING
        hopeful = bool(fitting) or _has_unknown_server(shortlist.fleet)
        if call.max_wait is not None:
            candidates = self._keep_in_time(shortlist, candidates, call, now)
        if hopeful:
            candidates = [_warned(candidate, warning) for candidate in candidates]
        first = candidates[0]
        judged = f"{wanted.level.label} {wanted.task_type.value}"
        return Decision(
            tuple(candidates),
            f"{judged}: {_explain_choice(first, bool(fitting))}",
            first.warning,
            bool(first.warning),
            wanted.level.label,
            wanted.task_type.value,
        )

    def check_wait(self, shortlist: CandidateIndex, call: Call, found: tuple[Deployment, ...], now: float) -> None:
        """Raise WaitTooLong where no server with the named model can begin as soon as the caller wants."""
        choices = shortlist.score_deployments(found)
        best = min(
            (self._ranker.estimate_first_token(choice, call, now) for choice in choices if choice.tier < 4),
            default=None,
        )
        if best is not None and call.max_wait is not None and best > call.max_wait:
            raise self._explain_wait(shortlist, call, best, now)

    def _rank_fitting(self, groups: tuple[ModelGroup, ...], call: Call, now: float, explain: bool) -> list[Candidate]:
        """Group after group, as long as the next one's least cost is below the best so far.

        What is in reserve or away is no such best: another model may be on a server that is neither.
        """
        found: list[Candidate] = []
        drawn: Sequence[ScoredDeployment] = ()
        least, most = INFINITE, SAMPLE_SIZE
        for group in groups:
            if not explain and group.find_min_cost() >= least and _has_spare(found):
                continue
            drawn = group.sample(self._ranker.rng, most)
            ranked = self._ranker.rank_deployments(drawn, call, now, explain)
            found += ranked
            ready = ranked[0].tier == 0
            if ready:
                least = min(least, ranked[0].cost)
            if not explain:
                most = max(2 if ready else LESSER_SAMPLE_SIZE, most // 4)
        if len(found) > len(drawn):
            found.sort(key=_rank_key)
        return found

    def _rank_lesser(self, groups: Iterable[ModelGroup], call: Call, now: float, explain: bool) -> list[Candidate]:
        drawn = (group.sample(self._ranker.rng, LESSER_SAMPLE_SIZE) for group in groups)
        return [
            candidate for choices in drawn for candidate in self._ranker.rank_deployments(choices, call, now, explain)
        ]

    def _keep_in_time(
        self, shortlist: CandidateIndex, candidates: list[Candidate], call: Call, now: float
    ) -> list[Candidate]:
        """Those first that can begin within the caller's patience, lesser models too; the rest is left out."""
        patience = call.max_wait or 0.0
        waits = [self._estimate_first_token(shortlist, candidate, call, now) for candidate in candidates]
        soon = [candidate for candidate, wait in zip(candidates, waits, strict=True) if wait <= patience]
        if not soon:
            raise self._explain_wait(shortlist, call, min(waits), now)
        return soon

    def _estimate_first_token(self, shortlist: CandidateIndex, candidate: Candidate, call: Call, now: float) -> float:
        [choice] = shortlist.score_deployments((candidate.deployment,))
        return self._ranker.estimate_first_token(choice, call, now)

    def _explain_wait(self, shortlist: CandidateIndex, call: Call, best: float, now: float) -> WaitTooLong:
        """Names the model that could begin in time, if any."""
        patience = call.max_wait or 0.0
        sooner: list[tuple[float, ScoredDeployment]] = []
        for deployments in shortlist.list_models().values():
            sooner += [
                (self._ranker.estimate_first_token(one, call, now), one)
                for one in shortlist.score_deployments(deployments)
            ]
        known = [(wait, one) for wait, one in sooner if one.tier < LESSER and wait <= patience]
        advice = "ask again later, or wait longer"
        if known:
            wait, one = min(known, key=lambda item: item[0])
            advice = f"{one.deployment.model.name} on {one.deployment.server.name} could in {wait:.1f} s"
        return WaitTooLong(
            f"no server could begin within {patience:g} s (x-penstock-max-wait), {best:.1f} s is expected; {advice}",
            retry_after=max(1.0, best - patience),
        )


def _derive_requirements(call: Call, ask: RequestProfile) -> Requirements:
    """What is needed: `auto:fast`, `auto:balanced`, `auto:powerful` and `auto:code` override what was judged."""
    word = call.model[5:].lower()
    level, task_type = _LEVEL_BY_CLASS.get(word, ask.level), ask.task_type
    if word == "code":
        level, task_type = max(level, Level.MODERATE), TaskType.CODE
    elif word and word not in _LEVEL_BY_CLASS:
        raise Unsupported(f"{call.model!r} is none of auto, auto:fast, auto:balanced, auto:powerful, auto:code")
    needed = _count_context_tokens(call, ask)
    context = 1 << (needed - 1).bit_length() if needed > 2048 else 0
    if needed <= context * 3 // 4:
        context = context * 3 // 4
    return Requirements(
        level, task_type, ask.image_count > 0, ask.has_tools, context, call.kinds, call.server, word == "code"
    )


def _count_context_tokens(call: Call, ask: RequestProfile) -> int:
    """Tokens of context that the call and its answer need."""
    return ask.context_tokens + (call.max_tokens or ANSWER_RESERVE_TOKENS)


def _rank_key(candidate: Candidate) -> tuple[int, int]:
    """As scales rank: those that cost about the same stay in their order."""
    return candidate.tier, int(candidate.cost * COST_BANDS_PER_SECOND)


def _has_spare(found: list[Candidate]) -> bool:
    """Whether there are enough to fall back on when a server fails."""
    return len(found) >= MIN_FITTING and found[0].deployment.server is not found[-1].deployment.server


def _warned(candidate: Candidate, warning: str) -> Candidate:
    if LESSER <= candidate.tier % 4 <= LESSER + 1:
        candidate.warning = warning
    return candidate


def _explain_choice(first: Candidate, fitting: bool) -> str:
    if first.tier % 4 >= LESSER:
        return "the fitting models are away" if fitting else "the best model there is"
    return "a fitting model in reserve" if first.tier else "the fitting model that answers soonest"


def _has_unknown_server(fleet: Fleet) -> bool:
    """Whether a server is away of which nobody knows what it has."""
    return any(not status.is_up and not status.models for status in fleet.statuses)


def _explain_no_model(shortlist: CandidateIndex, call: Call, wanted: Requirements) -> PenstockError:
    """Why no model can take it: what it needs and nobody has, one thing at a time."""
    if wanted.context_tokens:
        without = shortlist.find_groups(wanted._replace(context_tokens=0))
        longest = max(
            (c.deployment.model.context_length for groups in without for g in groups for c in (*g.loaded, *g.unloaded)),
            default=0,
        )
        if longest and call.profile is not None:
            needed = _count_context_tokens(call, call.profile)
            return ContextLengthExceeded(
                f"the request and its answer need about {needed} tokens of context, and no model here has more than "
                f"{longest}; shorten the conversation"
            )
    if wanted.needs_vision and any(shortlist.find_groups(wanted._replace(needs_vision=False, context_tokens=0))):
        return Unsupported("no model here can see images; send text only, or pull a model with vision", param="model")
    if wanted.needs_tools and any(shortlist.find_groups(wanted._replace(needs_tools=False, context_tokens=0))):
        return Unsupported("no model here can call tools; leave `tools` out, or pull one that can", param="tools")
    return unroutable.build_error(shortlist.fleet, replace(call, model=""))
