"""The choice of a model for a call that names none: what fits its level and kind, where it can begin soonest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ContextLengthExceeded, PenstockError, Unsupported, WaitTooLong
from penstock.domain.fleet import Deployment, Fleet
from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.routing import unroutable
from penstock.gateway.routing.candidate_index import LESSER, MOST_WEIGHED, Choice, Group, Shortlist, Wanted
from penstock.gateway.routing.ranking import BANDS, Scales

RUSSIAN_WARNING = "Используется упрощённая модель"
ENGLISH_WARNING = "A simplified model is being used"
MOST_LESSER = 8
EACH_LESSER = 4
"""Groups of lesser models that are weighed, and choices of each: enough for a fleet in ruins."""
ENOUGH = 4
"""Fitting candidates that need no lesser ones behind them."""
ANSWER_ROOM = 512
"""Tokens of context kept free for an answer of unknown length."""
INFINITE = float("inf")
_WORDS = {"fast": Level.TRIVIAL, "balanced": Level.MODERATE, "powerful": Level.COMPLEX}


class Chooser:
    """Chooses models; `scales` weigh where each may run."""

    def __init__(self, scales: Scales) -> None:
        self._scales = scales

    def choose(self, shortlist: Shortlist, call: Call, ask: RequestProfile, now: float, explain: bool) -> Decision:
        """Fitting models first, then lesser ones, which warn. Raises what tells that there is none."""
        wanted = _wanted(call, ask)
        fitting, lesser = shortlist.wanted(wanted)
        if wanted.coder and not (fitting or lesser):
            wanted = wanted._replace(coder=False)
            fitting, lesser = shortlist.wanted(wanted)
        if not (fitting or lesser):
            raise _nothing(shortlist, call, wanted)
        candidates = self._best(fitting, call, now, explain)
        makeshift = not candidates or candidates[0].tier >= LESSER or call.max_wait is not None
        if makeshift or explain or len(candidates) < ENOUGH:
            candidates += self._all(lesser if explain else lesser[:MOST_LESSER], call, now, explain)
            candidates.sort(key=_order)
        warning = RUSSIAN_WARNING if ask.russian else ENGLISH_WARNING
        hopeful = bool(fitting) or _unknown(shortlist.fleet)
        if call.max_wait is not None:
            candidates = self._in_time(shortlist, candidates, call, now)
        if hopeful:
            candidates = [_warned(candidate, warning) for candidate in candidates]
        first = candidates[0]
        judged = f"{wanted.level.label} {wanted.task_type.value}"
        return Decision(
            tuple(candidates),
            f"{judged}: {_why(first, bool(fitting))}",
            first.warning,
            bool(first.warning),
            wanted.level.label,
            wanted.task_type.value,
        )

    def check_wait(self, shortlist: Shortlist, call: Call, found: tuple[Deployment, ...], now: float) -> None:
        """Raise WaitTooLong where no server with the named model can begin as soon as the caller wants."""
        choices = shortlist.choices(found)
        best = min((self._scales.begins_in(choice, call, now) for choice in choices if choice.tier < 4), default=None)
        if best is not None and call.max_wait is not None and best > call.max_wait:
            raise self._too_long(shortlist, call, best, now)

    def _best(self, groups: tuple[Group, ...], call: Call, now: float, explain: bool) -> list[Candidate]:
        """Group after group, as long as the next one's least cost is below the best so far.

        What is in reserve or away is no such best: another model may be on a server that is neither.
        """
        found: list[Candidate] = []
        drawn: Sequence[Choice] = ()
        least, most = INFINITE, MOST_WEIGHED
        for group in groups:
            if not explain and group.floor() >= least and _spread(found):
                continue
            drawn = group.drawn(self._scales.chance, most)
            ranked = self._scales.ranked(drawn, call, now, explain)
            found += ranked
            ready = ranked[0].tier == 0
            if ready:
                least = min(least, ranked[0].cost)
            if not explain:
                most = max(2 if ready else EACH_LESSER, most // 4)
        if len(found) > len(drawn):
            found.sort(key=_order)
        return found

    def _all(self, groups: Iterable[Group], call: Call, now: float, explain: bool) -> list[Candidate]:
        drawn = (group.drawn(self._scales.chance, EACH_LESSER) for group in groups)
        return [candidate for choices in drawn for candidate in self._scales.ranked(choices, call, now, explain)]

    def _in_time(self, shortlist: Shortlist, candidates: list[Candidate], call: Call, now: float) -> list[Candidate]:
        """Those first that can begin within the caller's patience, lesser models too; the rest is left out."""
        patience = call.max_wait or 0.0
        waits = [self._begins(shortlist, candidate, call, now) for candidate in candidates]
        soon = [candidate for candidate, wait in zip(candidates, waits, strict=True) if wait <= patience]
        if not soon:
            raise self._too_long(shortlist, call, min(waits), now)
        return soon

    def _begins(self, shortlist: Shortlist, candidate: Candidate, call: Call, now: float) -> float:
        [choice] = shortlist.choices((candidate.deployment,))
        return self._scales.begins_in(choice, call, now)

    def _too_long(self, shortlist: Shortlist, call: Call, best: float, now: float) -> WaitTooLong:
        """Names the model that could begin in time, if any."""
        patience = call.max_wait or 0.0
        sooner: list[tuple[float, Choice]] = []
        for deployments in shortlist.models().values():
            sooner += [(self._scales.begins_in(one, call, now), one) for one in shortlist.choices(deployments)]
        known = [(wait, one) for wait, one in sooner if one.tier < LESSER and wait <= patience]
        advice = "ask again later, or wait longer"
        if known:
            wait, one = min(known, key=lambda item: item[0])
            advice = f"{one.deployment.model.name} on {one.deployment.server.name} could in {wait:.1f} s"
        return WaitTooLong(
            f"no server could begin within {patience:g} s (x-penstock-max-wait), {best:.1f} s is expected; {advice}",
            retry_after=max(1.0, best - patience),
        )


def _wanted(call: Call, ask: RequestProfile) -> Wanted:
    """What is needed: `auto:fast`, `auto:balanced`, `auto:powerful` and `auto:code` override what was judged."""
    word = call.model[5:].lower()
    level, task_type = _WORDS.get(word, ask.level), ask.task_type
    if word == "code":
        level, task_type = max(level, Level.MODERATE), TaskType.CODE
    elif word and word not in _WORDS:
        raise Unsupported(f"{call.model!r} is none of auto, auto:fast, auto:balanced, auto:powerful, auto:code")
    needed = _context(call, ask)
    context = 1 << (needed - 1).bit_length() if needed > 2048 else 0
    if needed <= context * 3 // 4:
        context = context * 3 // 4
    return Wanted(level, task_type, ask.images > 0, ask.tools, context, call.kinds, call.server, word == "code")


def _context(call: Call, ask: RequestProfile) -> int:
    """Tokens of context that the call and its answer need."""
    return ask.context_tokens + (call.max_tokens or ANSWER_ROOM)


def _order(candidate: Candidate) -> tuple[int, int]:
    """As scales rank: those that cost about the same stay in their order."""
    return candidate.tier, int(candidate.cost * BANDS)


def _spread(found: list[Candidate]) -> bool:
    """Whether there are enough to fall back on when a server fails."""
    return len(found) >= ENOUGH and found[0].deployment.server is not found[-1].deployment.server


def _warned(candidate: Candidate, warning: str) -> Candidate:
    if LESSER <= candidate.tier % 4 <= LESSER + 1:
        candidate.warning = warning
    return candidate


def _why(first: Candidate, fitting: bool) -> str:
    if first.tier % 4 >= LESSER:
        return "the fitting models are away" if fitting else "the best model there is"
    return "a fitting model in reserve" if first.tier else "the fitting model that answers soonest"


def _unknown(fleet: Fleet) -> bool:
    """Whether a server is away of which nobody knows what it has."""
    return any(not status.is_up and not status.models for status in fleet.statuses)


def _nothing(shortlist: Shortlist, call: Call, wanted: Wanted) -> PenstockError:
    """Why no model can take it: what it needs and nobody has, one thing at a time."""
    if wanted.context:
        without = shortlist.wanted(wanted._replace(context=0))
        longest = max(
            (c.deployment.model.context_length for groups in without for g in groups for c in (*g.held, *g.rest)),
            default=0,
        )
        if longest and call.profile is not None:
            needed = _context(call, call.profile)
            return ContextLengthExceeded(
                f"the request and its answer need about {needed} tokens of context, and no model here has more than "
                f"{longest}; shorten the conversation"
            )
    if wanted.vision and any(shortlist.wanted(wanted._replace(vision=False, context=0))):
        return Unsupported("no model here can see images; send text only, or pull a model with vision", param="model")
    if wanted.tools and any(shortlist.wanted(wanted._replace(tools=False, context=0))):
        return Unsupported("no model here can call tools; leave `tools` out, or pull one that can", param="tools")
    return unroutable.error(shortlist.fleet, replace(call, model=""))
