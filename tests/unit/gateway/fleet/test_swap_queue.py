"""Order of calls on a server that cannot hold all its models: batches, fairness, and no starvation."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.fleet.residency import Residency
from penstock.gateway.fleet.swap_queue import SwapQueue, Ticket

SIZES = {"a": 6, "b": 6, "c": 3}
ROOM = 10


@dataclass
class Server:
    """A swap queue with a clock and calls that end on request. A granted call starts at once, as in the gateway."""

    fairness: float = 30.0
    slots: int = 99
    now: float = 0.0
    running: list[str] = field(default_factory=list)
    waiting: dict[int, Ticket] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.residency = Residency()
        self.residency.smallest_overflow = ROOM
        self.turns = SwapQueue(self.residency, self.fairness)

    def call(self, model: str) -> int:
        self.number += 1
        number = self.number

        def grant() -> None:
            del self.waiting[number]
            self._enter(number, model)

        ticket = Ticket(model, 0, 0, 0.0, grant)
        self.waiting[number] = ticket
        asked = self.turns.request(model, SIZES[model], self.slots, self.now, grant)
        if asked is None:
            grant()
        elif number in self.waiting:
            self.waiting[number] = asked
        return number

    def _enter(self, number: int, model: str) -> None:
        self.granted.append(number)
        self.running.append(model)
        if not self.turns.start(model, SIZES[model], self.now):
            self.loads.append(model)

    def end(self, model: str) -> None:
        self.running.remove(model)
        self.turns.finish(model, self.now)


def test_calls_for_a_loaded_model_start_at_once_and_others_wait_for_them():
    server = Server()
    server.call("a")
    b = server.call("b")
    assert list(server.waiting) == [b]
    second = server.call("a")
    assert second in server.granted
    server.end("a")
    assert list(server.waiting) == [b]
    server.end("a")
    assert server.running == ["b"]
    assert server.loads == ["a", "b"]


def test_all_calls_that_wait_for_a_model_start_together():
    server = Server()
    server.call("a")
    for _ in range(5):
        server.call("b")
    server.end("a")
    assert server.running == ["b"] * 5
    assert server.loads == ["a", "b"]


def test_a_model_that_fits_does_not_wait():
    server = Server()
    server.call("a")
    server.call("c")
    assert server.running == ["a", "c"]


def test_after_the_fairness_bound_a_blocking_model_gets_no_more_calls():
    server = Server(fairness=30.0)
    server.call("a")
    b = server.call("b")
    server.now = 29.0
    server.call("a")
    assert server.running == ["a", "a"]
    server.now = 30.0
    server.turns.grant_next(server.now)
    late = server.call("a")
    assert late in server.waiting
    server.end("a")
    server.end("a")
    assert b in server.granted
    assert server.running == ["b"]
    server.end("b")
    assert late in server.granted


def test_a_cancelled_ticket_blocks_no_other_call():
    server = Server()
    server.call("a")
    b = server.call("b")
    server.now = 31.0
    server.turns.grant_next(server.now)
    late = server.call("a")
    server.turns.cancel(server.waiting.pop(b), server.now)
    assert late in server.granted
    assert server.turns.waiting_calls == 0


def test_a_model_larger_than_the_memory_starts_when_nothing_runs():
    server = Server()
    server.residency.smallest_overflow = 5
    server.call("a")
    b = server.call("b")
    server.end("a")
    assert b in server.granted


acts = st.lists(
    st.one_of(
        st.sampled_from([("call", "a"), ("call", "b"), ("call", "c"), ("end", 0), ("end", 3), ("leave", 0)]),
        st.tuples(st.just("wait"), st.floats(0.1, 40.0)),
    ),
    max_size=60,
)


@given(acts)
def test_every_call_is_granted_once_or_cancelled(acts):
    server = Server()
    gone: set[int] = set()
    for act, what in acts:
        if act == "call":
            server.call(str(what))
        elif act == "end" and server.running:
            server.end(server.running[int(what) % len(server.running)])
        elif act == "leave" and server.waiting:
            number = next(iter(server.waiting))
            server.turns.cancel(server.waiting.pop(number), server.now)
            gone.add(number)
        elif act == "wait":
            server.now += float(what)
            server.turns.grant_next(server.now)
        assert server.turns.waiting_calls == len(server.waiting)
        assert not server.waiting or server.running, "calls wait though nothing runs"
    while server.running:
        server.end(server.running[0])
    assert not server.waiting
    assert sorted([*server.granted, *gone]) == list(range(1, server.number + 1))


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=40))
def test_simultaneous_calls_load_each_model_once(models):
    server = Server()
    for model in models:
        server.call(model)
    while server.running:
        server.end(server.running[0])
    assert len(server.loads) == len(set(models))


def test_drained_models_may_return_after_the_waiting_one_was_loaded():
    server = Server(fairness=30.0, slots=2)
    server.call("a")
    b = [server.call("b") for _ in range(5)]
    server.now = 31.0
    server.turns.grant_next(server.now)
    late = server.call("a")
    server.end("a")
    assert server.running == ["b", "b"]
    server.now = 62.0
    server.turns.grant_next(server.now)
    for _ in range(2):
        server.end("b")
    assert late in server.granted
    server.end("a")
    while server.running:
        server.end(server.running[0])
    assert set(b) <= set(server.granted)


@given(st.lists(st.sampled_from("abc"), min_size=50, max_size=400), st.integers(1, 4), st.integers(5, 40))
@settings(max_examples=60)
def test_no_call_starves_while_others_keep_arriving(arrivals, slots, seconds):
    """A call arrives every second; each runs so many seconds once it is sent."""
    server = Server(fairness=30.0, slots=slots)
    began: dict[int, float] = {}
    ends: list[tuple[float, str]] = []
    for model in arrivals[: 4000 // seconds]:
        before = len(server.granted)
        number = server.call(model)
        began[number] = server.now
        due = [end for end in ends if end[0] <= server.now]
        ends = [end for end in ends if end[0] > server.now]
        for _, which in due:
            server.end(which)
        ends += [(server.now + seconds, which) for which in server.running[len(ends) :]]
        assert len(server.granted) >= before
        server.turns.grant_next(server.now)
        oldest = min((began[number] for number in server.waiting if server.waiting[number].model == "c"), default=None)
        if oldest is not None and slots > 1:
            behind = sum(ticket.model == "c" for ticket in server.waiting.values())
            assert server.now - oldest <= 4 * (30.0 + seconds) * (1 + behind)
        server.now += 1.0
    while server.running:
        server.end(server.running[0])
    assert not server.waiting
