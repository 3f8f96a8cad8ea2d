"""Selection of a model for a call that names none: one that suits its level and task type and can start soonest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ContextLengthExceeded, PenstockError, Unsupported, WaitTooLong
from penstock.domain.fleet import Deployment, Fleet
from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Decision, Tier
from penstock.gateway.routing import unroutable
from penstock.gateway.routing.candidate_index import (
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
"""Lesser models to rank, and deployments of each: enough when most of the fleet is down."""
MIN_FITTING = 4
"""Number of fitting candidates that need no lesser ones behind them."""
ANSWER_RESERVE_TOKENS = 512
"""Context reserved for an answer of unknown length."""
MIN_CONTEXT_TOKENS = 2048
"""Context that every model is assumed to have."""
_LEVEL_BY_CLASS = {"fast": Level.TRIVIAL, "balanced": Level.MODERATE, "powerful": Level.COMPLEX}


class ModelSelector:
    """Selects models; `ranker` ranks the deployments of each."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker

    def select_model(
        self, index: CandidateIndex, call: Call, profile: RequestProfile, now: float, explain: bool
    ) -> Decision:
        """Return fitting models first, then lesser ones with a warning.

        Raises WaitTooLong, Unsupported, ContextLengthExceeded, ModelNotFound or NoServer if there is none.
        """
        requirements = _derive_requirements(call, profile)
        groups = index.find_groups(requirements)
        if requirements.needs_coder and groups.is_empty:
            requirements = requirements._replace(needs_coder=False)
            groups = index.find_groups(requirements)
        if groups.is_empty:
            raise _explain_no_model(index, call, requirements)
        candidates = self._rank_fitting(groups.fitting, call, now, explain)
        is_makeshift = not candidates or not candidates[0].tier.is_available or call.max_wait is not None
        if is_makeshift or explain or len(candidates) < MIN_FITTING:
            lesser = groups.lesser if explain else groups.lesser[:MAX_LESSER_GROUPS]
            warning = ""
            if groups.fitting or _has_unknown_server(index.fleet):  # else the fleet never had anything better
                warning = RUSSIAN_WARNING if profile.prefers_russian else ENGLISH_WARNING
            candidates += self._rank_lesser(lesser, call, now, explain, warning)
            candidates.sort(key=_rank_key)
        if call.max_wait is not None:
            candidates = self._keep_in_time(index, candidates, call, now)
        first = candidates[0]
        level, task_type = requirements.level.label, requirements.task_type.value
        reason = f"{level} {task_type}: {_explain_choice(first, bool(groups.fitting))}"
        return Decision(tuple(candidates), reason, first.warning, bool(first.warning), level, task_type)

    def check_wait(self, index: CandidateIndex, call: Call, deployments: tuple[Deployment, ...], now: float) -> None:
        """Raise WaitTooLong if no available server with the named model can start within the call's `max_wait`."""
        waits = [
            self._ranker.estimate_first_token(scored, call, now)
            for scored in index.score_deployments(deployments)
            if scored.tier.is_available
        ]
        if waits and call.max_wait is not None and min(waits) > call.max_wait:
            raise self._build_wait_error(index, call, min(waits), now)

    def _rank_fitting(self, groups: tuple[ModelGroup, ...], call: Call, now: float, explain: bool) -> list[Candidate]:
        """Rank group after group, until the next group's lowest possible cost exceeds the lowest cost found.

        Only a candidate that is available and not in reserve sets that cost: another model may be on such a server.
        """
        candidates: list[Candidate] = []
        sample: Sequence[ScoredDeployment] = ()
        min_cost, sample_size = float("inf"), SAMPLE_SIZE
        for group in groups:
            if not explain and group.find_min_cost() >= min_cost and _has_spare(candidates):
                continue
            sample = group.sample(self._ranker.rng, sample_size)
            ranked = self._ranker.rank_deployments(sample, call, now, explain)
            candidates += ranked
            is_ready = ranked[0].tier is Tier.FITS
            if is_ready:
                min_cost = min(min_cost, ranked[0].cost)
            if not explain:
                sample_size = max(2 if is_ready else LESSER_SAMPLE_SIZE, sample_size // 4)
        if len(candidates) > len(sample):
            candidates.sort(key=_rank_key)
        return candidates

    def _rank_lesser(
        self, groups: Iterable[ModelGroup], call: Call, now: float, explain: bool, warning: str
    ) -> list[Candidate]:
        samples = (group.sample(self._ranker.rng, LESSER_SAMPLE_SIZE) for group in groups)
        return [
            candidate
            for sample in samples
            for candidate in self._ranker.rank_deployments(sample, call, now, explain, warning)
        ]

    def _keep_in_time(
        self, index: CandidateIndex, candidates: list[Candidate], call: Call, now: float
    ) -> list[Candidate]:
        """Keep the candidates that can start within the call's `max_wait`. Raises WaitTooLong if there is none."""
        max_wait = call.max_wait or 0.0
        scored = index.score_deployments(candidate.deployment for candidate in candidates)
        waits = [self._ranker.estimate_first_token(one, call, now) for one in scored]
        in_time = [candidate for candidate, wait in zip(candidates, waits, strict=True) if wait <= max_wait]
        if not in_time:
            raise self._build_wait_error(index, call, min(waits), now)
        return in_time

    def _build_wait_error(self, index: CandidateIndex, call: Call, expected: float, now: float) -> WaitTooLong:
        """Build the error for a call that nobody can serve in time; it names a model that could start in time."""
        max_wait = call.max_wait or 0.0
        advice = "Send the request again later, or allow a longer wait."
        in_time: list[tuple[float, Deployment]] = []
        for deployments in index.list_models().values():
            for scored in index.score_deployments(deployments):
                wait = self._ranker.estimate_first_token(scored, call, now)
                if scored.tier.is_available and wait <= max_wait:
                    in_time.append((wait, scored.deployment))
        if in_time:
            wait, deployment = min(in_time, key=lambda pair: pair[0])
            advice = f"{deployment.model.name} on {deployment.server.name} could start in {wait:.1f} s."
        return WaitTooLong(
            f"No server can start within {max_wait:g} s (x-penstock-max-wait); {expected:.1f} s is expected. {advice}",
            retry_after=max(1.0, expected - max_wait),
        )


def _derive_requirements(call: Call, profile: RequestProfile) -> Requirements:
    """Combine the request's profile with the size class of `auto:…`.

    `auto:fast`, `auto:balanced`, `auto:powerful` and `auto:code` override its level or task type. `auto:latest` is
    `auto`, as clients of Ollama list it.
    """
    size_class = call.model[len("auto:") :].lower()
    if size_class == "latest":
        size_class = ""
    level, task_type = _LEVEL_BY_CLASS.get(size_class, profile.level), profile.task_type
    if size_class == "code":
        level, task_type = max(level, Level.MODERATE), TaskType.CODE
    elif size_class and size_class not in _LEVEL_BY_CLASS:
        raise Unsupported(
            f"There is no model class {call.model!r}. Use auto, auto:fast, auto:balanced, auto:powerful, auto:code."
        )
    return Requirements(
        level,
        task_type,
        needs_vision=profile.image_count > 0,
        needs_tools=profile.has_tools,
        needs_coder=size_class == "code",
        context_tokens=_round_context(_count_context_tokens(call, profile)),
        kinds=call.kinds,
        server=call.server,
    )


def _count_context_tokens(call: Call, profile: RequestProfile) -> int:
    """Return the tokens of context that the call and its answer need."""
    return profile.context_tokens + (call.max_tokens or ANSWER_RESERVE_TOKENS)


def _round_context(tokens: int) -> int:
    """Round up to a power of two or three quarters of one; return 0 for a context that every model has."""
    if tokens <= MIN_CONTEXT_TOKENS:
        return 0
    power = 1 << (tokens - 1).bit_length()
    return power * 3 // 4 if tokens <= power * 3 // 4 else power


def _rank_key(candidate: Candidate) -> tuple[int, int]:
    """Return the key that the ranker sorts by; candidates of about equal cost keep their order."""
    return candidate.tier, int(candidate.cost * COST_BANDS_PER_SECOND)


def _has_spare(candidates: list[Candidate]) -> bool:
    """Return whether there are enough candidates, on more than one server, in case a server fails."""
    if len(candidates) < MIN_FITTING:
        return False
    return candidates[0].deployment.server is not candidates[-1].deployment.server


def _explain_choice(first: Candidate, has_fitting: bool) -> str:
    if first.tier.is_lesser:
        return "the fitting models are away" if has_fitting else "the best model there is"
    return "the fitting model that answers soonest" if first.tier is Tier.FITS else "a fitting model in reserve"


def _has_unknown_server(fleet: Fleet) -> bool:
    """Return whether a server is down whose models are not known."""
    return any(not status.is_up and not status.models for status in fleet.statuses)


def _explain_no_model(index: CandidateIndex, call: Call, requirements: Requirements) -> PenstockError:
    """Build the error for requirements that no model meets; it names the first one that cannot be met."""
    if requirements.context_tokens and call.profile is not None:
        longest = _find_longest_context(index, requirements._replace(context_tokens=0))
        if longest:
            needed = _count_context_tokens(call, call.profile)
            return ContextLengthExceeded(
                f"The request and its answer need about {needed} tokens of context, and no model here has more than "
                f"{longest}. Shorten the conversation."
            )
    relaxed = requirements._replace(context_tokens=0)
    if requirements.needs_vision and not index.find_groups(relaxed._replace(needs_vision=False)).is_empty:
        return Unsupported("No model here can read images. Send text only, or pull a vision model.", param="model")
    if requirements.needs_tools and not index.find_groups(relaxed._replace(needs_tools=False)).is_empty:
        return Unsupported("No model here can call tools. Leave out `tools`, or pull a model that can.", param="tools")
    return unroutable.build_error(index.fleet, replace(call, model=""))


def _find_longest_context(index: CandidateIndex, requirements: Requirements) -> int:
    """Return the longest context of a model that meets the requirements, 0 if there is none."""
    groups = index.find_groups(requirements)
    scored = (one for group in (*groups.fitting, *groups.lesser) for one in (*group.loaded, *group.unloaded))
    return max((one.deployment.model.context_length for one in scored), default=0)
