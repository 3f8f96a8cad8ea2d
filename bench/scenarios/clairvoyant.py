"""Bounds with knowledge of the complete day: a proven lower bound, and the best schedule that a search finds.

`find_lower_bound` bounds the time to first token from below: no call can start before the fastest machine with an
allowed model has processed its prompt, even with all models loaded and no queue. No schedule reaches it, because models
that do not fit in memory together must be loaded.

`Search` finds a schedule by hill climbing with full knowledge (the length of every response, every later call) among
what policies can do: for each call, the server and the time to send it. It starts with the best policy's schedule and
accepts only improvements of the complete day, so it is never slower than a policy. The optimum lies between the two.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.scenarios.baselines import Immediate
from bench.scenarios.calls import Call, VisibleCall
from bench.scenarios.fleet import Machine
from bench.scenarios.policy import Action, Actions, SendCall
from bench.scenarios.world import CallRecord, DayResult, World

EPSILON = 1e-6
HORIZON = 240.0  # seconds after a window in which its effects count
MIN_WINDOW = 40  # calls


@dataclass(frozen=True, slots=True)
class Step:
    """Server, model and time of sending of one call (seconds of the simulation's clock)."""

    server: str
    model: str
    at: float


Plan = dict[int, Step]


def find_lower_bound(call: Call, machines: Sequence[Machine]) -> float:
    """Return the least possible seconds to the first token: processing the prompt on the fastest machine."""
    return min(
        call.visible.prompt_tokens / weights.prefill + 2 * machine.latency
        for machine in machines
        for weights in machine.models
        if weights.name in call.visible.allowed_models
    )


def mean_lower_bound(calls: Sequence[Call], machines: Sequence[Machine]) -> float:
    return sum(find_lower_bound(call, machines) for call in calls) / len(calls)


class PlannedPolicy(Immediate):
    """Policy that follows a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scheduled: list[tuple[float, int]] = []
        self.wake_at: float | None = None

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        step = self._plan[call.number]
        if step.at <= now + EPSILON:
            return [SendCall(call.number, step.server, step.model)]
        self._scheduled.append((step.at, call.number))
        self._scheduled.sort()
        self.wake_at = self._scheduled[0][0]
        return ()

    def on_timer(self, now: float) -> Actions:
        actions: list[Action] = []
        while self._scheduled and self._scheduled[0][0] <= now + EPSILON:
            number = self._scheduled.pop(0)[1]
            actions.append(SendCall(number, self._plan[number].server, self._plan[number].model))
        self.wake_at = self._scheduled[0][0] if self._scheduled else None
        return actions

    def on_completion(self, done: object, now: float) -> Actions:
        return ()


def extract_plan(outcome: DayResult) -> Plan:
    """Return the plan that repeats what a policy did."""
    return {record.call.visible.number: Step(record.server, record.model, record.sent_at) for record in outcome.records}


def total_wait(outcome: DayResult) -> float:
    return sum(record.ttft for record in outcome.records)


def run_plan(machines: Sequence[Machine], calls: Sequence[Call], plan: Plan) -> DayResult:
    """Simulate a plan."""
    return World(machines, calls, PlannedPolicy(plan)).run()


class Search:
    """Improvement of a plan window by window. A window starts when no call runs or waits."""

    def __init__(self, machines: Sequence[Machine], calls: Sequence[Call], plan: Plan, seed: int = 0) -> None:
        self._machines = machines
        self._calls = calls
        self._random = random.Random(seed)
        self._servers = {
            model: [machine.name for machine in machines for weights in machine.models if weights.name == model]
            for model in {name for call in calls for name in call.visible.allowed_models}
        }
        self.plan = dict(plan)
        self.best = total_wait(run_plan(self._machines, self._calls, self.plan))

    def improve_plan(self, rounds: int, tries: int) -> float:
        """Improve the plan in `rounds` passes over the day with `tries` moves per window; return the mean wait."""
        for _ in range(rounds):
            quiet = run_plan(self._machines, self._calls, self.plan).loaded_when_idle
            starts = self._choose_windows(sorted(quiet))
            for begin, end in itertools.pairwise([*starts, len(self._calls)]):
                self._improve_window(begin, end, quiet[self._calls[begin].visible.number], tries)
            cost = total_wait(run_plan(self._machines, self._calls, self.plan))
            self.best = min(self.best, cost)
        return self.best / len(self._calls)

    def _choose_windows(self, quiet: list[int]) -> list[int]:
        """Choose idle moments with at least `MIN_WINDOW` calls between them, different ones in each round."""
        index = {call.visible.number: i for i, call in enumerate(self._calls)}
        starts, wide = [0], self._random.randrange(MIN_WINDOW // 2, MIN_WINDOW)
        for number in quiet:
            if index[number] - starts[-1] >= wide:
                starts.append(index[number])
                wide = MIN_WINDOW
        return starts

    def _improve_window(self, begin: int, end: int, loaded: dict[str, tuple[str, ...]], tries: int) -> None:
        """Improve one window, with the models that are loaded at its start."""
        calls = self._calls
        until = calls[end - 1].visible.arrived_at + HORIZON
        tail = next((i for i in range(end, len(calls)) if calls[i].visible.arrived_at > until), len(calls))
        machines = [replace(machine, loaded=loaded[machine.name]) for machine in self._machines]
        self._climb_hill(calls[begin:tail], end - begin, machines, tries)

    def _climb_hill(self, calls: Sequence[Call], count: int, machines: Sequence[Machine], tries: int) -> None:
        plan = {call.visible.number: self.plan[call.visible.number] for call in calls}
        now = run_plan(machines, calls, plan)
        best, changed = total_wait(now), False
        for _ in range(tries):
            late = [
                record for record in now.records[:count] if record.ttft > find_lower_bound(record.call, machines) + 0.05
            ]
            if not late:
                break
            other = self._mutate_plan(plan, late, now.records)
            after = run_plan(machines, calls, other)
            if total_wait(after) < best - 1e-9:
                plan, now, best, changed = other, after, total_wait(after), True
        if changed:
            candidate = self.plan | plan
            cost = total_wait(run_plan(self._machines, self._calls, candidate))
            if cost < self.best:
                self.plan, self.best = candidate, cost

    def _mutate_plan(self, plan: Plan, late: list[CallRecord], records: list[CallRecord]) -> Plan:
        """Return a neighbour of the plan: one to four calls near a late one get another server or time."""
        other = dict(plan)
        hub = self._random.choices(late, [record.ttft for record in late])[0]
        near = [s for s in records if abs(s.call.visible.arrived_at - hub.call.visible.arrived_at) < 90]
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 4))):
            record = hub if self._random.random() < 0.5 else self._random.choice(near)
            call = record.call.visible
            step, dice = other[call.number], self._random.random()
            if dice < 0.45:
                model = self._random.choice([name for name in call.allowed_models if self._servers[name]])
                step = replace(step, model=model, server=self._random.choice(self._servers[model]))
            if dice < 0.25 or dice > 0.75:
                step = replace(step, at=call.arrived_at)
            elif dice > 0.4:
                cause = self._random.choice(near)
                moment = self._random.choice(
                    (cause.ended_at, cause.first_token_at, cause.sent_at, cause.call.visible.arrived_at)
                )
                step = replace(step, at=max(call.arrived_at, moment + 1e-4))
            other[call.number] = step
        if self._random.random() < 0.2:
            self._align_calls(other, hub, near)
        return other

    def _align_calls(self, plan: Plan, hub: CallRecord, near: list[CallRecord]) -> None:
        """Send all similar calls to the same model."""
        step = plan[hub.call.visible.number]
        for record in near:
            seen = record.call.visible
            if step.model in seen.allowed_models and seen.allowed_models == hub.call.visible.allowed_models:
                plan[seen.number] = Step(step.server, step.model, plan[seen.number].at)
