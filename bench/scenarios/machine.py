"""One simulated server as Ollama schedules: a queue in order of arrival, models loaded one at a time when their call is
its head, the least recently used idle one evicted, and nothing evicted that is at work."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.scenarios.fleet import Machine, Weights

At = Callable[[float, Callable[[], None]], None]
"""Do something so many seconds from now."""


@dataclass(slots=True)
class Job:
    """A call on a server. The times are of the world's clock, -1 for not yet."""

    call: int
    model: str
    prompt_tokens: int
    answer_tokens: int
    first_token: Callable[["Job"], None]
    complete: Callable[["Job"], None]
    sent: float
    load_seconds: float = 0.0
    began: float = -1.0


@dataclass(slots=True)
class Loaded:
    """A model in memory or on its way there. `used` orders the least recently used."""

    weights: Weights
    ready: bool = False
    running: int = 0
    queue: deque[Job] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return self.ready and not self.running and not self.queue


class Engine:
    """`clock` tells the time, `after` is how anything takes time; what was on a server that died never happens."""

    def __init__(self, machine: Machine, clock: Callable[[], float], after: At) -> None:
        self.machine = machine
        self.up = True
        self.loads = 0
        self.evictions = 0
        self.jobs: dict[int, Job] = {}
        self.loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._clock = clock
        self._after = after
        self._pending: deque[Job] = deque()
        self._loading = False
        self._life = 0
        for name in machine.loaded:
            self.loaded[name] = Loaded(machine.weights(name), ready=True)

    def resident(self) -> tuple[str, ...]:
        """As `/api/ps` shows it: what has finished loading."""
        return tuple(name for name, loaded in self.loaded.items() if loaded.ready)

    def take(self, job: Job) -> None:
        self.jobs[job.call] = job
        self._pending.append(job)
        self._pump()

    def die(self) -> list[Job]:
        """Everything stops; what was on it is returned."""
        self.up = False
        self._life += 1
        lost = list(self.jobs.values())
        self.jobs.clear()
        self._pending.clear()
        self.loaded.clear()
        self._loading = False
        return lost

    def come_back(self) -> None:
        self.up = True

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        life = self._life
        self._after(seconds, lambda: do() if life == self._life else None)

    def _pump(self) -> None:
        while self._pending:
            job = self._pending[0]
            loaded = self.loaded.get(job.model)
            if loaded is None:
                if self._loading or not self._make_room(self.machine.weights(job.model)):
                    return
                loaded = self._load(job)
            self._pending.popleft()
            loaded.queue.append(job)
            self._serve(loaded)

    def _make_room(self, wanted: Weights) -> bool:
        """Evict idle models until this one fits; False when those at work are in the way."""
        while self._free() < wanted.memory:
            victim = next((name for name, loaded in self.loaded.items() if loaded.idle), None)
            if victim is None:
                return False
            del self.loaded[victim]
            self.evictions += 1
        return True

    def _free(self) -> float:
        return self.machine.memory - sum(loaded.weights.memory for loaded in self.loaded.values())

    def _load(self, job: Job) -> Loaded:
        weights = self.machine.weights(job.model)
        loaded = self.loaded[job.model] = Loaded(weights)
        self._loading = True
        self.loads += 1
        job.load_seconds = weights.load_seconds
        self._later(weights.load_seconds, lambda: self._ready(loaded))
        return loaded

    def _ready(self, loaded: Loaded) -> None:
        self._loading = False
        loaded.ready = True
        self._serve(loaded)
        self._pump()

    def _serve(self, loaded: Loaded) -> None:
        while loaded.ready and loaded.queue and loaded.running < loaded.weights.slots:
            job = loaded.queue.popleft()
            loaded.running += 1
            prefill = job.prompt_tokens / loaded.weights.prefill
            self._later(prefill, lambda job=job: self._begin(loaded, job))  # type: ignore[misc]

    def _begin(self, loaded: Loaded, job: Job) -> None:
        job.began = self._clock()
        job.first_token(job)
        self._later(job.answer_tokens / loaded.weights.decode, lambda: self._end(loaded, job))

    def _end(self, loaded: Loaded, job: Job) -> None:
        loaded.running -= 1
        del self.jobs[job.call]
        self.loaded.move_to_end(job.model)
        self._serve(loaded)
        self._pump()
        job.complete(job)
