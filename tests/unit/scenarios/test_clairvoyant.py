"""The clairvoyant is never slower than a policy, and its plans are possible for a policy."""

from bench.scenarios.baselines import FirstCome, LeastConnections, RandomOfTwo, RoundRobin
from bench.scenarios.clairvoyant import Search, extract_plan, mean_lower_bound, run_plan, total_wait
from bench.scenarios.reference import Reference
from bench.scenarios.world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from .days import short_day

POLICIES = (Reference, FirstCome, RoundRobin, LeastConnections, RandomOfTwo)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(("mixed-day", "two-gpus", "own-mind")), st.integers(0, 10_000))
def test_the_clairvoyant_beats_every_policy_but_not_the_lower_bound(scenario: str, seed: int) -> None:
    machines, calls = short_day(scenario, seed)
    outcomes = [World(machines, calls, policy()).run() for policy in POLICIES]
    search = Search(machines, calls, extract_plan(min(outcomes, key=total_wait)), seed)
    found = search.improve_plan(rounds=1, tries=20)
    reached = total_wait(run_plan(machines, calls, search.plan)) / len(calls)
    assert abs(found - reached) < 1e-6
    for outcome in outcomes:
        assert reached <= total_wait(outcome) / len(calls) + 1e-6
    assert reached >= mean_lower_bound(calls, machines)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(0, 10_000))
def test_a_plan_repeats_what_its_policy_did(policy: type, seed: int) -> None:
    machines, calls = short_day("mixed-day", seed)
    outcome = World(machines, calls, policy()).run()
    again = run_plan(machines, calls, extract_plan(outcome))
    assert abs(total_wait(again) - total_wait(outcome)) < 1e-3
