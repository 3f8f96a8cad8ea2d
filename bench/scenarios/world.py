"""The world: calls arrive, a policy sends them, servers answer, load, swap, die and return, all in virtual time."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.scenarios.calls import Call
from bench.scenarios.fleet import Machine
from bench.scenarios.machine import Engine, Job
from bench.scenarios.policy import Acts, Done, Offer, Policy, Send

LOOK_EVERY = 10.0
REFUSED_AFTER = 0.05
MAX_TRIES = 5
PATIENCE = 86400.0  # after the last arrival


@dataclass(slots=True)
class Story:
    """What became of a call. Times are of the world's clock, -1 for never; `tries` is how often it was sent."""

    call: Call
    server: str = ""
    model: str = ""
    sent: float = -1.0
    first_token: float = -1.0
    ended: float = -1.0
    tries: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the first token."""
        return self.first_token - self.call.seen.arrived

    @property
    def total(self) -> float:
        return self.ended - self.call.seen.arrived


@dataclass(slots=True)
class Outcome:
    """A whole day: every call's story, and what the servers loaded and evicted (each eviction is a swap).

    `ends` has the calls in order of their end; `quiet` what was loaded where, least recently used first, whenever a
    call came while no other was open.
    """

    stories: list[Story]
    loads: int
    swaps: int
    ends: list[int] = field(default_factory=list)
    quiet: dict[int, dict[str, tuple[str, ...]]] = field(default_factory=dict)


class World:
    """One day of one fleet under one policy."""

    def __init__(self, machines: Sequence[Machine], calls: Sequence[Call], policy: Policy) -> None:
        self.now = calls[0].seen.arrived if calls else 0.0
        self.stories = {call.seen.number: Story(call) for call in calls}
        self.engines = {machine.name: Engine(machine, lambda: self.now, self.after) for machine in machines}
        self._policy = policy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waking: float | None = None
        self.quiet: dict[int, dict[str, tuple[str, ...]]] = {}
        self._inside = 0
        self._open = len(calls)
        self._ends: list[int] = []
        self._last = calls[-1].seen.arrived if calls else 0.0
        for call in calls:
            self.at(call.seen.arrived, lambda call=call: self._arrive(call))  # type: ignore[misc]
        for machine in machines:
            for begin, end in machine.away:
                self.at(begin, lambda name=machine.name: self._die(name))  # type: ignore[misc]
                self.at(end, self.engines[machine.name].come_back)

    def at(self, moment: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + seconds, do)

    def run(self) -> Outcome:
        """To the end of the last call. Raises RuntimeError when the policy forgets one."""
        self._policy.start(offers([engine.machine for engine in self.engines.values()]))
        self._look()
        while self._open:
            if not self._events or self.now > self._last + PATIENCE:
                left = [story.call.seen.number for story in self.stories.values() if story.ended < 0]
                raise RuntimeError(f"calls {left[:5]} … are never sent")
            self.now, _, do = heapq.heappop(self._events)
            do()
        engines = self.engines.values()
        loads, swaps = sum(engine.loads for engine in engines), sum(engine.evictions for engine in engines)
        return Outcome(list(self.stories.values()), loads, swaps, self._ends, self.quiet)

    def _arrive(self, call: Call) -> None:
        if not self._inside:
            self.quiet[call.seen.number] = self._resident()
        self._inside += 1
        self._act(self._policy.arrived(call.seen, self.now))

    def _resident(self) -> dict[str, tuple[str, ...]]:
        return {name: engine.resident() for name, engine in self.engines.items()}

    def _look(self) -> None:
        for name, engine in self.engines.items():
            self._act(self._policy.looked(name, engine.up, engine.resident(), self.now))
        if self._open:
            self.after(LOOK_EVERY, self._look)

    def _act(self, acts: Acts) -> None:
        for act in acts:
            if isinstance(act, Send):
                self._send(act)
            else:
                self._close(self.stories[act.call], "given up")
        wake = self._policy.wake_at
        if wake is not None and (self._waking is None or wake < self._waking or self._waking < self.now):
            self._waking = max(wake, self.now)
            self.at(self._waking, self._wake)

    def _wake(self) -> None:
        wake = self._policy.wake_at
        self._waking = None
        if wake is not None and wake <= self.now:
            self._act(self._policy.woken(self.now))
        else:
            self._act(())

    def _send(self, send: Send) -> None:
        story = self.stories[send.call]
        if story.call.seen.arrived > self.now or story.sent >= 0 or story.ended >= 0:
            raise RuntimeError(f"call {send.call} cannot be sent at {self.now:.1f}")
        if send.model not in story.call.seen.fits:
            raise RuntimeError(f"{send.model} does not fit call {send.call}: {story.call.seen.fits}")
        engine = self.engines[send.server]
        engine.machine.weights(send.model)
        story.server, story.model, story.sent = send.server, send.model, self.now
        story.tries += 1
        if story.tries > MAX_TRIES:
            self._close(story, "too many tries")
        elif not engine.up:
            self.after(REFUSED_AFTER, lambda: self._fail(story))
        else:
            self.after(engine.machine.latency, lambda: self._reach(story, engine))

    def _reach(self, story: Story, engine: Engine) -> None:
        if not engine.up:
            self._fail(story)
            return
        seen = story.call.seen
        engine.take(
            Job(
                *(seen.number, story.model, seen.prompt_tokens, story.call.answer_tokens),
                *(self._first_token, self._complete, self.now),
            )
        )

    def _first_token(self, job: Job) -> None:
        story = self.stories[job.call]
        story.first_token = self.now + self.engines[story.server].machine.latency
        self._act(self._policy.began(job.call, self.now))

    def _complete(self, job: Job) -> None:
        story = self.stories[job.call]
        weights = self.engines[story.server].machine.weights(job.model)
        self._close(story, "")
        seconds = (job.load_seconds, job.prompt_tokens / weights.prefill, job.answer_tokens / weights.decode)
        self._act(self._policy.ended(Done(job.call, job.answer_tokens, *seconds), self.now))

    def _die(self, name: str) -> None:
        for job in self.engines[name].die():
            self._fail(self.stories[job.call])

    def _fail(self, story: Story) -> None:
        begun = story.first_token >= 0
        story.sent = -1.0
        if begun:
            self._close(story, "broken off")
        self._act(self._policy.failed(story.call.seen.number, self.now, begun))

    def _close(self, story: Story, error: str) -> None:
        if story.ended >= 0:
            raise RuntimeError(f"call {story.call.seen.number} ends twice")
        story.ended, story.error = self.now, error
        self._open -= 1
        self._inside -= 1
        self._ends.append(story.call.seen.number)


def offers(machines: Sequence[Machine]) -> tuple[Offer, ...]:
    """What discovery would tell of these machines."""
    return tuple(
        Offer(machine.name, model.name, model.memory, model.slots, model.disk, machine.secondary)
        for machine in machines
        for model in machine.models
    )
