"""What could be done by one who knows the whole day: a proven lower bound, and the best schedule that a search finds.

`floor` is a true lower bound of the mean time to first token: no call can speak before the fastest machine that holds a
fitting model has read its prompt, even with every model loaded everywhere and no queue. Nobody reaches it: models that
do not fit in memory together must be loaded.

`Search` finds a schedule by hill climbing with full knowledge (every answer's length, every later call), in the space
of what policies can do: for each call, where it is sent and when. It begins with the best schedule of all policies and
takes only what makes the whole day better, so it is at most as slow as each of them. The unknown optimum lies between.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.scenarios.baselines import Immediate
from bench.scenarios.calls import Call, Seen
from bench.scenarios.fleet import Machine
from bench.scenarios.policy import Act, Acts, Send
from bench.scenarios.world import Outcome, Story, World

EPSILON = 1e-6
HORIZON = 240.0  # seconds after a window, in which its consequences are counted
WIDE = 40  # calls that a window has at least


@dataclass(frozen=True, slots=True)
class Step:
    """Where one call is sent, and when (seconds of the world's clock)."""

    server: str
    model: str
    at: float


Plan = dict[int, Step]


def floor(call: Call, machines: Sequence[Machine]) -> float:
    """Seconds to the first token that no schedule goes below: reading the prompt where that is fastest."""
    return min(
        call.seen.prompt_tokens / weights.prefill + 2 * machine.latency
        for machine in machines
        for weights in machine.models
        if weights.name in call.seen.fits
    )


def mean_floor(calls: Sequence[Call], machines: Sequence[Machine]) -> float:
    return sum(floor(call, machines) for call in calls) / len(calls)


class Scripted(Immediate):
    """Does as a plan says."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._held: list[tuple[float, int]] = []
        self.wake_at: float | None = None

    def arrived(self, call: Seen, now: float) -> Acts:
        step = self._plan[call.number]
        if step.at <= now + EPSILON:
            return [Send(call.number, step.server, step.model)]
        self._held.append((step.at, call.number))
        self._held.sort()
        self.wake_at = self._held[0][0]
        return ()

    def woken(self, now: float) -> Acts:
        acts: list[Act] = []
        while self._held and self._held[0][0] <= now + EPSILON:
            number = self._held.pop(0)[1]
            acts.append(Send(number, self._plan[number].server, self._plan[number].model))
        self.wake_at = self._held[0][0] if self._held else None
        return acts

    def ended(self, done: object, now: float) -> Acts:
        return ()


def plan_of(outcome: Outcome) -> Plan:
    """What a policy did, as a plan that does the same."""
    return {story.call.seen.number: Step(story.server, story.model, story.sent) for story in outcome.stories}


def waited(outcome: Outcome) -> float:
    return sum(story.ttft for story in outcome.stories)


def replayed(machines: Sequence[Machine], calls: Sequence[Call], plan: Plan) -> Outcome:
    """What comes of a plan."""
    return World(machines, calls, Scripted(plan)).run()


class Search:
    """Improves a plan window by window. A window begins at a moment when nothing runs or waits."""

    def __init__(self, machines: Sequence[Machine], calls: Sequence[Call], plan: Plan, seed: int = 0) -> None:
        self._machines = machines
        self._calls = calls
        self._chance = random.Random(seed)
        self._places = {
            model: [machine.name for machine in machines for weights in machine.models if weights.name == model]
            for model in {name for call in calls for name in call.seen.fits}
        }
        self.plan = dict(plan)
        self.best = waited(replayed(self._machines, self._calls, self.plan))

    def improve(self, rounds: int, tries: int) -> float:
        """The mean time to first token reached. Each round goes through the day; `tries` moves per window."""
        for _ in range(rounds):
            quiet = replayed(self._machines, self._calls, self.plan).quiet
            starts = self._starts(sorted(quiet))
            for begin, end in itertools.pairwise([*starts, len(self._calls)]):
                self._window(begin, end, quiet[self._calls[begin].seen.number], tries)
            cost = waited(replayed(self._machines, self._calls, self.plan))
            self.best = min(self.best, cost)
        return self.best / len(self._calls)

    def _starts(self, quiet: list[int]) -> list[int]:
        """Quiet moments at least so many calls apart, others in each round."""
        index = {call.seen.number: i for i, call in enumerate(self._calls)}
        starts, wide = [0], self._chance.randrange(WIDE // 2, WIDE)
        for number in quiet:
            if index[number] - starts[-1] >= wide:
                starts.append(index[number])
                wide = WIDE
        return starts

    def _window(self, begin: int, end: int, loaded: dict[str, tuple[str, ...]], tries: int) -> None:
        """Climb in one window, as long as what was loaded at its start still is so."""
        calls = self._calls
        until = calls[end - 1].seen.arrived + HORIZON
        tail = next((i for i in range(end, len(calls)) if calls[i].seen.arrived > until), len(calls))
        machines = [replace(machine, loaded=loaded[machine.name]) for machine in self._machines]
        self._climb(calls[begin:tail], end - begin, machines, tries)

    def _climb(self, calls: Sequence[Call], count: int, machines: Sequence[Machine], tries: int) -> None:
        plan = {call.seen.number: self.plan[call.seen.number] for call in calls}
        now = replayed(machines, calls, plan)
        best, changed = waited(now), False
        for _ in range(tries):
            late = [story for story in now.stories[:count] if story.ttft > floor(story.call, machines) + 0.05]
            if not late:
                break
            other = self._moved(plan, late, now.stories)
            after = replayed(machines, calls, other)
            if waited(after) < best - 1e-9:
                plan, now, best, changed = other, after, waited(after), True
        if changed:
            whole = self.plan | plan
            cost = waited(replayed(self._machines, self._calls, whole))
            if cost < self.best:
                self.plan, self.best = whole, cost

    def _moved(self, plan: Plan, late: list[Story], stories: list[Story]) -> Plan:
        """A neighbour of the plan: one to four calls near a late one go elsewhere, sooner, or after something."""
        other = dict(plan)
        hub = self._chance.choices(late, [story.ttft for story in late])[0]
        near = [s for s in stories if abs(s.call.seen.arrived - hub.call.seen.arrived) < 90]
        for _ in range(self._chance.choice((1, 1, 1, 2, 3, 4))):
            story = hub if self._chance.random() < 0.5 else self._chance.choice(near)
            call = story.call.seen
            step, dice = other[call.number], self._chance.random()
            if dice < 0.45:
                model = self._chance.choice([name for name in call.fits if self._places[name]])
                step = replace(step, model=model, server=self._chance.choice(self._places[model]))
            if dice < 0.25 or dice > 0.75:
                step = replace(step, at=call.arrived)
            elif dice > 0.4:
                cause = self._chance.choice(near)
                moment = self._chance.choice((cause.ended, cause.first_token, cause.sent, cause.call.seen.arrived))
                step = replace(step, at=max(call.arrived, moment + 1e-4))
            other[call.number] = step
        if self._chance.random() < 0.2:
            self._together(other, hub, near)
        return other

    def _together(self, plan: Plan, hub: Story, near: list[Story]) -> None:
        """All calls of the same kind go to the same model."""
        step = plan[hub.call.seen.number]
        for story in near:
            seen = story.call.seen
            if step.model in seen.fits and seen.fits == hub.call.seen.fits:
                plan[seen.number] = Step(step.server, step.model, plan[seen.number].at)
