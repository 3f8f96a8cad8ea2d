"""Rules of the simulation, whatever a policy does."""

import dataclasses
from collections import Counter

import pytest
from bench.scenarios.baselines import FirstCome, Immediate, LeastConnections, RandomOfTwo, RoundRobin
from bench.scenarios.calls import Call, VisibleCall
from bench.scenarios.clairvoyant import find_lower_bound
from bench.scenarios.fleet import Machine, Weights
from bench.scenarios.policy import Actions, CompletedCall, Offer, SendCall
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
    assert Counter(outcome.completion_order) == Counter(call.visible.number for call in calls)
    for story in outcome.records:
        if not story.error:
            assert story.call.visible.arrived_at <= story.sent_at <= story.first_token_at <= story.ended_at


@settings(max_examples=25, deadline=None)
@given(some_policy, some_scenario, some_seed)
def test_no_first_token_comes_before_the_lower_bound(policy: type, scenario: str, seed: int) -> None:
    machines, calls = short_day(scenario, seed)
    for story in World(machines, calls, policy()).run().records:
        assert story.error or story.ttft >= find_lower_bound(story.call, machines) - 1e-6


@settings(max_examples=10, deadline=None)
@given(some_policy, some_scenario, some_seed)
def test_the_same_seed_gives_the_same_day(policy: type, scenario: str, seed: int) -> None:
    first, second = (World(*short_day(scenario, seed), policy()).run() for _ in range(2))
    assert first == second


def test_another_seed_gives_another_day() -> None:
    assert short_day("mixed-day", 1)[1] != short_day("mixed-day", 2)[1]


def test_a_policy_does_not_see_response_lengths() -> None:
    visible = {field.name for field in dataclasses.fields(VisibleCall)} | {
        field.name for field in dataclasses.fields(Offer)
    }
    assert visible == {
        *("number", "arrived_at", "user", "model", "level", "task", "prompt_tokens", "allowed_models"),
        *("server", "size", "slots", "disk", "secondary"),
    }


class Watching(FirstCome):
    """Policy that keeps its arguments."""

    def __init__(self) -> None:
        self.handed: list[object] = []

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        self.handed.append(call)
        return super().on_arrival(call, now)

    def on_probe(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Actions:
        self.handed += [server, up, *resident]
        return super().on_probe(server, up, resident, now)


def test_objects_passed_to_a_policy_do_not_reveal_the_future() -> None:
    policy = Watching()
    World(*short_day("mixed-day", 5), policy).run()
    assert {type(thing) for thing in policy.handed} == {VisibleCall, str, bool}


ONE = Weights("a", 10, 4.0, 100.0, 10.0, 1)
OTHER = Weights("b", 10, 6.0, 100.0, 10.0, 1)


def call(number: int, at: float, model: str, prompt: int = 100, answer: int = 50) -> Call:
    return Call(
        VisibleCall(
            number=number,
            arrived_at=at,
            user=0,
            model=model,
            level=Level.MODERATE,
            task=TaskType.CHAT,
            prompt_tokens=prompt,
            allowed_models=(model,),
        ),
        answer,
    )


def run(calls: list[Call], memory: float = 15, away: tuple[tuple[float, float], ...] = ()) -> list[tuple[float, float]]:
    outcome = World([Machine("s", memory, (ONE, OTHER), downtimes=away)], calls, FirstCome()).run()
    return [(round(story.first_token_at, 6), round(story.ended_at, 6)) for story in outcome.records]


def test_a_call_takes_loading_prefill_and_decoding() -> None:
    assert run([call(0, 0, "a")]) == [(5, 10)]


def test_calls_of_one_model_use_its_slot_in_turn() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "a")]) == [(5, 10), (11, 16)]


def test_a_busy_model_is_not_evicted_and_later_calls_queue_behind_the_swap() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "b"), call(2, 2, "a")]) == [(5, 10), (17, 22), (27, 32)]


def test_models_that_fit_together_respond_at_the_same_time() -> None:
    assert run([call(0, 0, "a"), call(1, 1, "b")], memory=25) == [(5, 10), (11, 16)]


def test_a_failed_server_cuts_streams_and_loses_its_models() -> None:
    outcome = World(
        [Machine("s", 15, (ONE,), downtimes=((7, 20),))], [call(0, 0, "a"), call(1, 1, "a")], FirstCome()
    ).run()
    streaming, queued = outcome.records
    assert (streaming.error, streaming.ended_at) == ("cut", 7)
    assert not queued.error
    assert queued.first_token_at == pytest.approx(25)
    assert outcome.loads == 2


class Careless(Immediate):
    """Policy with one invalid action."""

    def __init__(self, send: SendCall) -> None:
        self.send = send

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        return [self.send, self.send]

    def on_completion(self, done: CompletedCall, now: float) -> Actions:
        return ()


@pytest.mark.parametrize(
    ("send", "complaint"),
    [
        (SendCall(0, "s", "a"), "cannot be sent"),
        (SendCall(1, "s", "a"), "cannot be sent"),
        (SendCall(0, "s", "b"), "does not fit"),
    ],
)
def test_the_simulation_rejects_impossible_actions(send: SendCall, complaint: str) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        World([Machine("s", 15, (ONE, OTHER))], [call(0, 0, "a"), call(1, 9, "a")], Careless(send)).run()
