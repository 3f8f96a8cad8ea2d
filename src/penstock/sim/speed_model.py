"""The speed model: which models are loaded, who generates, who waits, and how long each part takes."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from penstock.sim.options import SimModel, SimOptions


class QueueFullError(Exception):
    """The queue of the server is full."""


class EngineCrashError(Exception):
    """The engine reports a failure, before or in the middle of a generation."""


@dataclass(slots=True)
class Counters:
    """Counters of a simulated server since it was created."""

    requests: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    started: int = 0
    completed: int = 0
    cancelled: int = 0
    loads: int = 0
    evictions: int = 0
    max_concurrency: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def count_request(self, path: str) -> None:
        self.requests[path] = self.requests.get(path, 0) + 1

    def count_fault(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1


class Slots:
    """A limited number of slots; requests wait in order of arrival."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self.free:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            elif turn in self._waiters:
                self._waiters.remove(turn)
            raise

    def release(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


@dataclass(slots=True)
class Resident:
    """A loaded model.

    `users` counts the sessions that generate or wait on it; `setup` are its load parameters; a `leaving` one takes no
    new users; times are simulated seconds.
    """

    model: SimModel
    setup: Hashable
    slots: Slots
    keep_alive: float
    users: int = 0
    leaving: bool = False
    expires_at: float = math.inf
    expiry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Session:
    """One generation that holds a slot. The three durations are simulated seconds and grow while it runs."""

    speed_model: "SpeedModel"
    model: SimModel
    started_at: float
    crash: str | None
    load_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    tokens: int = 0
    _decode_started_at: float = 0.0

    async def read_prompt(self, tokens: int) -> None:
        if self.crash == "crash_before":
            raise EngineCrashError
        own, engine = self.model.prefill_tokens_per_second, self.speed_model
        begin = engine.now()
        await engine.sleep(tokens / (own or engine.options.prefill_tokens_per_second))
        self.prefill_seconds = engine.now() - begin
        engine.counters.prompt_tokens += tokens

    async def generate_token(self) -> None:
        """Wait until the next token is ready."""
        engine = self.speed_model
        rate = self.model.tokens_per_second or engine.options.tokens_per_second
        if self.tokens == 0:
            self._decode_started_at = engine.now()
        if self.crash == "crash_middle" and self.tokens == 1:
            raise EngineCrashError
        self.tokens += 1
        if rate != math.inf:
            await engine.sleep_until(self._decode_started_at + self.tokens / rate)
        engine.counters.generated_tokens += 1
        self.decode_seconds = engine.now() - self._decode_started_at

    @property
    def total_seconds(self) -> float:
        return self.speed_model.now() - self.started_at


class SpeedModel:
    """Models in memory, slots, and the clock. With `per_model` each loaded model has its own slots.

    `loading` is True while a server of one model starts.
    """

    def __init__(self, options: SimOptions, models: tuple[SimModel, ...], *, per_model: bool) -> None:
        self.options = options
        self.models = models
        self.counters = Counters()
        self.residents: dict[str, Resident] = {}  # the least recently used first
        self.loading = False
        self.running = 0
        self.waiting = 0
        self.default_keep_alive = math.inf
        self._shared = None if per_model else Slots(options.slots)
        self._loading = asyncio.Lock()
        self._pending = 0
        self._idle = asyncio.Event()

    def now(self) -> float:
        """Return the simulated time in seconds, monotonic."""
        return asyncio.get_running_loop().time() * self.options.clock_scale

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds / self.options.clock_scale)

    async def sleep_until(self, moment: float) -> None:
        await self.sleep(moment - self.now())

    @asynccontextmanager
    async def open_session(
        self, model: SimModel, *, setup: Hashable = None, keep_alive: float | None = None, crash: str | None = None
    ) -> AsyncIterator[Session]:
        """Load the model if necessary, wait for a slot, and hold it until the end of the block.

        Raises QueueFullError if too many are waiting.
        """
        began = self.now()
        self.counters.started += 1
        self.waiting += 1
        resident: Resident | None = None
        slots: Slots | None = None
        try:
            try:
                resident = await self._ensure_resident(model, setup, keep_alive)
                loaded = self.now() - began
                if self._shared is not None and not self._shared.free and self.waiting > self.options.queue_limit:
                    raise QueueFullError
                wanted = self._shared or resident.slots
                await wanted.acquire()
                slots = wanted
            finally:
                self.waiting -= 1
            self.running += 1
            self.counters.max_concurrency = max(self.counters.max_concurrency, self.running)
            try:
                yield Session(self, model, began, crash, load_seconds=loaded)
            finally:
                self.running -= 1
            self.counters.completed += 1
        except asyncio.CancelledError:
            self.counters.cancelled += 1
            raise
        finally:
            if slots is not None:
                slots.release()
            if resident is not None:
                self._release_resident(resident)

    async def load_model(self, model: SimModel, *, setup: Hashable = None, keep_alive: float | None = None) -> None:
        """Make the model resident without generating."""
        self.waiting += 1
        try:
            self._release_resident(await self._ensure_resident(model, setup, keep_alive))
        finally:
            self.waiting -= 1

    def preload_model(self, model: SimModel) -> None:
        """Make the model resident without delay, before the first request."""
        self._release_resident(self._add_resident(model, None, None))

    def unload_model(self, model: SimModel) -> None:
        """Unload the model as soon as no session uses it."""
        resident = self._find_resident(model)
        if resident is None:
            return
        resident.keep_alive = 0.0
        if not resident.users:
            self._drop_resident(resident)

    async def _ensure_resident(self, model: SimModel, setup: Hashable, keep_alive: float | None) -> Resident:
        found = self._find_loaded(model, setup)
        if found is None:
            if self._pending > self.options.queue_limit:
                raise QueueFullError
            self._pending += 1
            try:
                async with self._loading:
                    found = self._find_loaded(model, setup) or await self._load_model(model, setup, keep_alive)
            finally:
                self._pending -= 1
        found.users += 1
        if keep_alive is not None:
            found.keep_alive = keep_alive
        if found.expiry is not None:
            found.expiry.cancel()
        return found

    def _find_resident(self, model: SimModel) -> Resident | None:
        """Return the resident of a model, or of another name of the same weights."""
        named = self.residents.get(model.name)
        if named is not None or not model.weights:
            return named
        return next((other for other in self.residents.values() if other.model.weights == model.weights), None)

    def _find_loaded(self, model: SimModel, setup: Hashable) -> Resident | None:
        found = self._find_resident(model)
        return found if found is not None and found.setup == setup and not found.leaving else None

    async def _load_model(self, model: SimModel, setup: Hashable, keep_alive: float | None) -> Resident:
        while not self._make_room(model):
            self._idle.clear()
            await self._idle.wait()
        await self.sleep(self.options.load_seconds if model.load_seconds is None else model.load_seconds)
        self.counters.loads += 1
        resident = self._add_resident(model, setup, keep_alive)
        resident.users -= 1
        return resident

    def _make_room(self, model: SimModel) -> bool:
        """Evict idle models until this one fits; return False if one in use would have to be evicted."""
        stale = self._find_resident(model)
        if stale is not None and not self._evict(stale):
            return False
        while len(self.residents) >= self.options.max_loaded:
            idle = [resident for resident in self.residents.values() if not resident.users]
            if not self._evict((idle or list(self.residents.values()))[0]):
                return False
            self.counters.evictions += 1
        return True

    def _evict(self, resident: Resident) -> bool:
        resident.leaving = True
        if resident.users:
            return False
        self._drop_resident(resident)
        return True

    def _add_resident(self, model: SimModel, setup: Hashable, keep_alive: float | None) -> Resident:
        lasting = self.default_keep_alive if keep_alive is None else keep_alive
        slots = Slots(self.options.slots)
        resident = Resident(model, setup, slots, lasting, users=1, expires_at=self.now() + lasting)
        self.residents[model.name] = resident
        return resident

    def _release_resident(self, resident: Resident) -> None:
        resident.users -= 1
        if resident.model.name in self.residents:
            self.residents[resident.model.name] = self.residents.pop(resident.model.name)
        resident.expires_at = self.now() + resident.keep_alive
        if resident.users:
            return
        if resident.keep_alive <= 0 or resident.leaving:
            self._drop_resident(resident)
        elif resident.keep_alive != math.inf:
            loop = asyncio.get_running_loop()
            resident.expiry = loop.call_later(
                resident.keep_alive / self.options.clock_scale, self._expire_resident, resident
            )
        self._idle.set()

    def _expire_resident(self, resident: Resident) -> None:
        if not resident.users:
            self._drop_resident(resident)

    def _drop_resident(self, resident: Resident) -> None:
        if resident.expiry is not None:
            resident.expiry.cancel()
        if self.residents.get(resident.model.name) is resident:
            del self.residents[resident.model.name]

    def close(self) -> None:
        for resident in list(self.residents.values()):
            self._drop_resident(resident)
