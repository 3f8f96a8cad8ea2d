"""Discrete-event simulation: calls arrive, a policy sends them, servers load, swap, respond, fail and recover."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.scenarios.calls import Call
from bench.scenarios.fleet import Machine
from bench.scenarios.machine import Job, SimulatedServer
from bench.scenarios.policy import Actions, CompletedCall, Offer, Policy, SendCall

PROBE_INTERVAL = 10.0
REFUSAL_SECONDS = 0.05
MAX_TRIES = 5
MAX_SECONDS_AFTER_LAST = 86400.0


@dataclass(slots=True)
class CallRecord:
    """Record of a call. Times are of the simulation's clock, -1 for never; `tries` counts sends."""

    call: Call
    server: str = ""
    model: str = ""
    sent_at: float = -1.0
    first_token_at: float = -1.0
    ended_at: float = -1.0
    tries: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the first token."""
        return self.first_token_at - self.call.visible.arrived_at

    @property
    def total(self) -> float:
        return self.ended_at - self.call.visible.arrived_at


@dataclass(slots=True)
class DayResult:
    """Result of a day: the record of every call, and the numbers of loads and evictions (swaps).

    `completion_order` has the calls in order of their end. `loaded_when_idle` has, for each call that arrived while no
    other was open, the loaded models by server, least recently used first.
    """

    records: list[CallRecord]
    loads: int
    swaps: int
    completion_order: list[int] = field(default_factory=list)
    loaded_when_idle: dict[int, dict[str, tuple[str, ...]]] = field(default_factory=dict)


class World:
    """Simulation of one day of one fleet under one policy."""

    def __init__(self, machines: Sequence[Machine], calls: Sequence[Call], policy: Policy) -> None:
        self.now = calls[0].visible.arrived_at if calls else 0.0
        self.records = {call.visible.number: CallRecord(call) for call in calls}
        self.servers = {
            machine.name: SimulatedServer(machine, lambda: self.now, self.schedule_after) for machine in machines
        }
        self._policy = policy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waking: float | None = None
        self.loaded_when_idle: dict[int, dict[str, tuple[str, ...]]] = {}
        self._open_calls = 0
        self._remaining_calls = len(calls)
        self._ends: list[int] = []
        self._last = calls[-1].visible.arrived_at if calls else 0.0
        for call in calls:
            self.schedule_at(call.visible.arrived_at, lambda call=call: self._on_arrival(call))  # type: ignore[misc]
        for machine in machines:
            for begin, end in machine.downtimes:
                self.schedule_at(begin, lambda name=machine.name: self._fail_server(name))  # type: ignore[misc]
                self.schedule_at(end, self.servers[machine.name].recover)

    def schedule_at(self, moment: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), callback))

    def schedule_after(self, seconds: float, callback: Callable[[], None]) -> None:
        self.schedule_at(self.now + seconds, callback)

    def run(self) -> DayResult:
        """Run until the last call has ended. Raises RuntimeError if the policy never sends a call."""
        self._policy.start(list_offers([engine.machine for engine in self.servers.values()]))
        self._probe_servers()
        while self._remaining_calls:
            if not self._events or self.now > self._last + MAX_SECONDS_AFTER_LAST:
                left = [record.call.visible.number for record in self.records.values() if record.ended_at < 0]
                raise RuntimeError(f"calls {left[:5]} … are never sent")
            self.now, _, callback = heapq.heappop(self._events)
            callback()
        engines = self.servers.values()
        loads, swaps = sum(engine.loads for engine in engines), sum(engine.evictions for engine in engines)
        return DayResult(list(self.records.values()), loads, swaps, self._ends, self.loaded_when_idle)

    def _on_arrival(self, call: Call) -> None:
        if not self._open_calls:
            self.loaded_when_idle[call.visible.number] = self._list_loaded()
        self._open_calls += 1
        self._apply_actions(self._policy.on_arrival(call.visible, self.now))

    def _list_loaded(self) -> dict[str, tuple[str, ...]]:
        return {name: engine.list_loaded() for name, engine in self.servers.items()}

    def _probe_servers(self) -> None:
        for name, engine in self.servers.items():
            self._apply_actions(self._policy.on_probe(name, engine.up, engine.list_loaded(), self.now))
        if self._remaining_calls:
            self.schedule_after(PROBE_INTERVAL, self._probe_servers)

    def _apply_actions(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, SendCall):
                self._send_call(action)
            else:
                self._finish_call(self.records[action.call], "given up")
        wake = self._policy.wake_at
        if wake is not None and (self._waking is None or wake < self._waking or self._waking < self.now):
            self._waking = max(wake, self.now)
            self.schedule_at(self._waking, self._on_timer)

    def _on_timer(self) -> None:
        wake = self._policy.wake_at
        self._waking = None
        if wake is not None and wake <= self.now:
            self._apply_actions(self._policy.on_timer(self.now))
        else:
            self._apply_actions(())

    def _send_call(self, send: SendCall) -> None:
        record = self.records[send.call]
        if record.call.visible.arrived_at > self.now or record.sent_at >= 0 or record.ended_at >= 0:
            raise RuntimeError(f"call {send.call} cannot be sent at {self.now:.1f}")
        if send.model not in record.call.visible.allowed_models:
            raise RuntimeError(f"{send.model} does not fit call {send.call}: {record.call.visible.allowed_models}")
        engine = self.servers[send.server]
        engine.machine.find_weights(send.model)
        record.server, record.model, record.sent_at = send.server, send.model, self.now
        record.tries += 1
        if record.tries > MAX_TRIES:
            self._finish_call(record, "too many tries")
        elif not engine.up:
            self.schedule_after(REFUSAL_SECONDS, lambda: self._fail_call(record))
        else:
            self.schedule_after(engine.machine.latency, lambda: self._deliver_call(record, engine))

    def _deliver_call(self, record: CallRecord, engine: SimulatedServer) -> None:
        if not engine.up:
            self._fail_call(record)
            return
        seen = record.call.visible
        engine.accept_job(
            Job(
                *(seen.number, record.model, seen.prompt_tokens, record.call.answer_tokens),
                *(self._on_first_token, self._on_completion, self.now),
            )
        )

    def _on_first_token(self, job: Job) -> None:
        record = self.records[job.call]
        record.first_token_at = self.now + self.servers[record.server].machine.latency
        self._apply_actions(self._policy.on_first_token(job.call, self.now))

    def _on_completion(self, job: Job) -> None:
        record = self.records[job.call]
        weights = self.servers[record.server].machine.find_weights(job.model)
        self._finish_call(record, "")
        seconds = (job.load_seconds, job.prompt_tokens / weights.prefill, job.answer_tokens / weights.decode)
        self._apply_actions(self._policy.on_completion(CompletedCall(job.call, job.answer_tokens, *seconds), self.now))

    def _fail_server(self, name: str) -> None:
        for job in self.servers[name].fail():
            self._fail_call(self.records[job.call])

    def _fail_call(self, record: CallRecord) -> None:
        has_started = record.first_token_at >= 0
        record.sent_at = -1.0
        if has_started:
            self._finish_call(record, "cut")
        self._apply_actions(self._policy.on_failure(record.call.visible.number, self.now, has_started))

    def _finish_call(self, record: CallRecord, error: str) -> None:
        if record.ended_at >= 0:
            raise RuntimeError(f"call {record.call.visible.number} ends twice")
        record.ended_at, record.error = self.now, error
        self._remaining_calls -= 1
        self._open_calls -= 1
        self._ends.append(record.call.visible.number)


def list_offers(machines: Sequence[Machine]) -> tuple[Offer, ...]:
    """Return the offers that discovery would list."""
    return tuple(
        Offer(machine.name, model.name, model.memory, model.slots, model.disk, machine.secondary)
        for machine in machines
        for model in machine.models
    )
