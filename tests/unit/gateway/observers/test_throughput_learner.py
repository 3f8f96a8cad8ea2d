"""Throughput is learnt from a sample of the calls that succeeded at the first attempt."""

from typing import Any

import pytest

from penstock.domain.errors import UpstreamCut
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.response import Usage
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.learning import AnsweredCall
from penstock.gateway.observers import ThroughputLearner, throughput_learner
from penstock.gateway.observers.throughput_learner import FIRST_CALLS, MAX_SKIPPED_CALLS, MIN_INTERVAL
from penstock.gateway.request_context import RequestContext
from tests.unit.gateway.finished_contexts import FakeRelay, finished_context

DEPLOYMENT = Deployment(Server("s", "ollama", ("http://s:1",)), Model("m"), "http://s:1", 2)


@pytest.fixture
def learned_calls(monkeypatch: pytest.MonkeyPatch) -> list[AnsweredCall]:
    """Record the calls that are learned from."""
    recorded: list[AnsweredCall] = []
    monkeypatch.setattr(throughput_learner, "learn_throughput", lambda load, deployment, call: recorded.append(call))
    return recorded


def answered_call(**fields: Any) -> RequestContext:
    return finished_context(deployment=DEPLOYMENT, relay=FakeRelay(Usage(3, 4)), **fields)


def test_times_run_from_the_end_of_the_wait_in_the_swap_queue(learned_calls):
    learner = ThroughputLearner(Catalog(), lambda server: None)
    learner.observe_call(answered_call(queue_seconds=0.25, first_byte_at=100.5, running_before=1))
    (lesson,) = learned_calls
    assert lesson == AnsweredCall(
        Usage(3, 4), model_was_loaded=True, running_before=1, first_byte_seconds=0.25, total_seconds=0.75
    )


def test_retried_and_failed_calls_teach_nothing(learned_calls):
    learner = ThroughputLearner(Catalog(), lambda server: None)
    learner.observe_call(answered_call(attempts=2))
    learner.observe_call(answered_call(failure=UpstreamCut("The server closed the connection.")))
    learner.observe_call(finished_context(attempts=1))
    assert learned_calls == []


def test_after_the_first_calls_only_a_sample_of_a_burst_is_learned_from(learned_calls):
    learner = ThroughputLearner(Catalog(), lambda server: None)
    for _ in range(FIRST_CALLS + 10 * (MAX_SKIPPED_CALLS + 1)):
        learner.observe_call(answered_call())
    assert len(learned_calls) == FIRST_CALLS + 10


def test_calls_that_are_far_enough_apart_are_all_learned_from(learned_calls):
    learner = ThroughputLearner(Catalog(), lambda server: None)
    for number in range(FIRST_CALLS + 10):
        learner.observe_call(answered_call(finished_at=101.0 + number * MIN_INTERVAL * 1.01))
    assert len(learned_calls) == FIRST_CALLS + 10


def test_a_call_that_loaded_a_model_always_teaches_and_has_its_server_probed(learned_calls):
    probed: list[str] = []
    learner = ThroughputLearner(Catalog(), probed.append)
    for _ in range(FIRST_CALLS):
        learner.observe_call(answered_call())
    learned_calls.clear()
    for _ in range(3):
        learner.observe_call(answered_call(model_was_loaded=False))
    assert (len(learned_calls), probed) == (3, ["s", "s", "s"])
