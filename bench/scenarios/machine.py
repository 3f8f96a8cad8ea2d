"""Simulated server with Ollama's scheduler.

Calls queue in order of arrival. The call at the head loads its model, one at a time; the least recently used idle
models are evicted for it, busy ones never.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.scenarios.fleet import Machine, Weights

Schedule = Callable[[float, Callable[[], None]], None]
"""Schedules a callback after a number of seconds."""


@dataclass(slots=True)
class Job:
    """Call on a server. Times are of the simulation's clock, -1 for not yet."""

    call: int
    model: str
    prompt_tokens: int
    answer_tokens: int
    on_first_token: Callable[["Job"], None]
    on_completion: Callable[["Job"], None]
    sent_at: float
    load_seconds: float = 0.0
    started_at: float = -1.0


@dataclass(slots=True)
class LoadedModel:
    """Model that is loaded or being loaded."""

    weights: Weights
    is_ready: bool = False
    running: int = 0
    queue: deque[Job] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        return self.is_ready and not self.running and not self.queue


class SimulatedServer:
    """Simulated server. Callbacks that were scheduled before a failure are dropped."""

    def __init__(self, machine: Machine, clock: Callable[[], float], after: Schedule) -> None:
        self.machine = machine
        self.up = True
        self.loads = 0
        self.evictions = 0
        self.jobs: dict[int, Job] = {}
        self.loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._clock = clock
        self._after = after
        self._pending: deque[Job] = deque()
        self._loading = False
        self._generation = 0
        for name in machine.loaded:
            self.loaded[name] = LoadedModel(machine.find_weights(name), is_ready=True)

    def list_loaded(self) -> tuple[str, ...]:
        """Return the loaded models, like `/api/ps`."""
        return tuple(name for name, loaded in self.loaded.items() if loaded.is_ready)

    def accept_job(self, job: Job) -> None:
        self.jobs[job.call] = job
        self._pending.append(job)
        self._process_queue()

    def fail(self) -> list[Job]:
        """Stop the server; return the jobs that it had."""
        self.up = False
        self._generation += 1
        lost = list(self.jobs.values())
        self.jobs.clear()
        self._pending.clear()
        self.loaded.clear()
        self._loading = False
        return lost

    def recover(self) -> None:
        self.up = True

    def _schedule(self, seconds: float, do: Callable[[], None]) -> None:
        life = self._generation
        self._after(seconds, lambda: do() if life == self._generation else None)

    def _process_queue(self) -> None:
        while self._pending:
            job = self._pending[0]
            loaded = self.loaded.get(job.model)
            if loaded is None:
                if self._loading or not self._make_room(self.machine.find_weights(job.model)):
                    return
                loaded = self._load_model(job)
            self._pending.popleft()
            loaded.queue.append(job)
            self._start_jobs(loaded)

    def _make_room(self, wanted: Weights) -> bool:
        """Evict idle models until this one fits; return False if busy models prevent it."""
        while self._free_memory() < wanted.memory:
            victim = next((name for name, loaded in self.loaded.items() if loaded.is_idle), None)
            if victim is None:
                return False
            del self.loaded[victim]
            self.evictions += 1
        return True

    def _free_memory(self) -> float:
        return self.machine.memory - sum(loaded.weights.memory for loaded in self.loaded.values())

    def _load_model(self, job: Job) -> LoadedModel:
        weights = self.machine.find_weights(job.model)
        loaded = self.loaded[job.model] = LoadedModel(weights)
        self._loading = True
        self.loads += 1
        job.load_seconds = weights.load_seconds
        self._schedule(weights.load_seconds, lambda: self._finish_loading(loaded))
        return loaded

    def _finish_loading(self, loaded: LoadedModel) -> None:
        self._loading = False
        loaded.is_ready = True
        self._start_jobs(loaded)
        self._process_queue()

    def _start_jobs(self, loaded: LoadedModel) -> None:
        while loaded.is_ready and loaded.queue and loaded.running < loaded.weights.slots:
            job = loaded.queue.popleft()
            loaded.running += 1
            prefill = job.prompt_tokens / loaded.weights.prefill
            self._schedule(prefill, lambda job=job: self._start_generation(loaded, job))  # type: ignore[misc]

    def _start_generation(self, loaded: LoadedModel, job: Job) -> None:
        job.started_at = self._clock()
        job.on_first_token(job)
        self._schedule(job.answer_tokens / loaded.weights.decode, lambda: self._finish_job(loaded, job))

    def _finish_job(self, loaded: LoadedModel, job: Job) -> None:
        loaded.running -= 1
        del self.jobs[job.call]
        self.loaded.move_to_end(job.model)
        self._start_jobs(loaded)
        self._process_queue()
        job.on_completion(job)
