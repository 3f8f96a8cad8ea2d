"""The simulated world keeps its own rules, whatever a policy does."""

import dataclasses
from collections import Counter

import pytest
from bench.scenarios.baselines import FirstCome, Immediate, LeastConnections, RandomOfTwo, RoundRobin
from bench.scenarios.calls import Call, Seen
from bench.scenarios.clairvoyant import floor
from bench.scenarios.fleet import Machine, Weights
from bench.scenarios.policy import Acts, Done, Offer, Send
from bench.scenarios.reference import Reference
from bench.scenarios.world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.complexity import Level, TaskType

from .days import short_day

POLICIES = (Reference, FirstCome, RoundRobin, LeastConnections, RandomOfTwo)
SCENARIOS = ("mixed-day", "two-gpus", "own-mind", "failures")

some_policy = st.sampled_from(POLICIES)
some_scenario = st.sampled_from(SCENARIOS)
some_seed = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(some_policy, some_scenario, some_seed)
def test_every_call_ends_exactly_once_and_in_order(policy: type, scenario: str, seed: int) -> None:
    machines, calls = short_day(scenario, seed)
    outcome = World(machines, calls, policy()).run()
    assert Counter(outcome.ends) == Counter(call.seen.number for call in calls)
    for story in outcome.stories:
        if not story.error:
            assert story.call.seen.arrived <= story.sent <= story.first_token <= story.ended


@settings(max_examples=25, deadline=None)
@given(some_policy, some_scenario, some_seed)
def test_no_call_speaks_before_the_floor(policy: type, scenario: str, seed: int) -> None:
    machines, calls = short_day(scenario, seed)
    for story in World(machines, calls, policy()).run().stories:
        assert story.error or story.ttft >= floor(story.call, machines) - 1e-6


@settings(max_examples=10, deadline=None)
@given(some_policy, some_scenario, some_seed)
def test_the_same_seed_is_the_same_day(policy: type, scenario: str, seed: int) -> None:
    first, second = (World(*short_day(scenario, seed), policy()).run() for _ in range(2))
    assert first == second


def test_another_seed_is_another_day() -> None:
    assert short_day("mixed-day", 1)[1] != short_day("mixed-day", 2)[1]


def test_a_policy_is_shown_no_answer_before_its_end() -> None:
    shown = {field.name for field in dataclasses.fields(Seen)} | {field.name for field in dataclasses.fields(Offer)}
    assert shown == {
        *("number", "arrived", "user", "model", "level", "task", "prompt_tokens", "fits"),
        *("server", "size", "slots", "disk", "secondary"),
    }


class Watching(FirstCome):
    """Keeps whatever it is handed."""

    def __init__(self) -> None:
        self.handed: list[object] = []

    def arrived(self, call: Seen, now: float) -> Acts:
        self.handed.append(call)
        return super().arrived(call, now)

    def looked(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Acts:
        self.handed += [server, up, *resident]
        return super().looked(server, up, resident, now)


def test_nothing_that_a_policy_is_handed_knows_the_future() -> None:
    policy = Watching()
    World(*short_day("mixed-day", 5), policy).run()
    assert {type(thing) for thing in policy.handed} == {Seen, str, bool}


ONE = Weights("a", 10, 4.0, 100.0, 10.0, 1)
OTHER = Weights("b", 10, 6.0, 100.0, 10.0, 1)


def call(number: int, at: float, model: str, prompt: int = 100, answer: int = 50) -> Call:
    return Call(Seen(number, at, 0, model, Level.MODERATE, TaskType.CHAT, prompt, (model,)), answer)


def run(calls: list[Call], memory: float = 15, away: tuple[tuple[float, float], ...] = ()) -> list[tuple[float, float]]:
    outcome = World([Machine("s", memory, (ONE, OTHER), away=away)], calls, FirstCome()).run()
    return [(round(story.first_token, 6), round(story.ended, 6)) for story in outcome.stories]


def test_a_call_waits_for_loading_reading_and_writing() -> None:
    assert run([call(0, 0, "a")]) == [(5, 10)]


def test_calls_of_one_model_have_its_slot_in_turn() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "a")]) == [(5, 10), (11, 16)]


def test_a_model_at_work_is_not_evicted_and_who_comes_later_queues_behind_the_swap() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "b"), call(2, 2, "a")]) == [(5, 10), (17, 22), (27, 32)]


def test_models_that_fit_together_answer_at_the_same_time() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "b")], memory=25) == [(5, 10), (11, 16)]


def test_a_server_that_dies_breaks_streams_and_forgets_what_was_loaded() -> None:
    outcome = World([Machine("s", 15, (ONE,), away=((7, 20),))], [call(0, 0, "a"), call(1, 1, "a")], FirstCome()).run()
    streaming, queued = outcome.stories
    assert (streaming.error, streaming.ended) == ("broken off", 7)
    assert not queued.error
    assert queued.first_token == pytest.approx(25)
    assert outcome.loads == 2


class Careless(Immediate):
    """Does one wrong thing."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def arrived(self, call: Seen, now: float) -> Acts:
        return [self.send, self.send]

    def ended(self, done: Done, now: float) -> Acts:
        return ()


@pytest.mark.parametrize(
    ("send", "complaint"),
    [(Send(0, "s", "a"), "cannot be sent"), (Send(1, "s", "a"), "cannot be sent"), (Send(0, "s", "b"), "does not fit")],
)
def test_the_world_refuses_what_no_gateway_could_do(send: Send, complaint: str) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        World([Machine("s", 15, (ONE, OTHER))], [call(0, 0, "a"), call(1, 9, "a")], Careless(send)).run()
