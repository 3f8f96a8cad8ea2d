"""The clairvoyant is at most as slow as anyone, and its plans are what policies could have done."""

from bench.scenarios.baselines import FirstCome, LeastConnections, RandomOfTwo, RoundRobin
from bench.scenarios.clairvoyant import Search, mean_floor, plan_of, replayed, waited
from bench.scenarios.reference import Reference
from bench.scenarios.world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from .days import short_day

POLICIES = (Reference, FirstCome, RoundRobin, LeastConnections, RandomOfTwo)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(("mixed-day", "two-gpus", "own-mind")), st.integers(0, 10_000))
def test_no_policy_waits_less_than_the_clairvoyant_nor_the_clairvoyant_less_than_the_floor(
    scenario: str, seed: int
) -> None:
    machines, calls = short_day(scenario, seed)
    outcomes = [World(machines, calls, policy()).run() for policy in POLICIES]
    search = Search(machines, calls, plan_of(min(outcomes, key=waited)), seed)
    found = search.improve(rounds=1, tries=20)
    reached = waited(replayed(machines, calls, search.plan)) / len(calls)
    assert abs(found - reached) < 1e-6
    for outcome in outcomes:
        assert reached <= waited(outcome) / len(calls) + 1e-6
    assert reached >= mean_floor(calls, machines)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(0, 10_000))
def test_what_a_policy_did_can_be_done_again_from_its_plan(policy: type, seed: int) -> None:
    machines, calls = short_day("mixed-day", seed)
    outcome = World(machines, calls, policy()).run()
    again = replayed(machines, calls, plan_of(outcome))
    assert abs(waited(again) - waited(outcome)) < 1e-3
