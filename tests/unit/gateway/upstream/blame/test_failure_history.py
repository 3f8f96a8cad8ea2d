"""History of requests that failed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock.domain.request import Call, Operation
from penstock.gateway.upstream.blame.failure_history import MAX_REQUESTS, TTL, FailureHistory
from penstock.gateway.upstream.blame.verdict import History

CALL = Call("openai.chat", Operation.CHAT, "m", stream=False, body=b'{"a":1}')


def do_nothing() -> None:
    pass


def make_history(refund: Callable[[], None] = do_nothing) -> FailureHistory:
    history = FailureHistory()
    history.add_charge(CALL, "a", 0.0, refund)
    return history


def test_a_request_is_known_by_its_wire_and_body():
    history = make_history()
    assert history.find(replace(CALL, model="M", body=bytes([*CALL.body])), "a", 1.0) is History.SAME_SERVER
    assert history.find(CALL, "b", 1.0) is History.OTHER_SERVER
    assert history.find(replace(CALL, body=b'{"a":2}'), "a", 1.0) is History.NEW
    assert history.find(replace(CALL, wire="ollama.chat"), "a", 1.0) is History.NEW


def test_a_charge_is_refunded_once():
    refunds: list[int] = []
    history = make_history(lambda: refunds.append(1))
    history.refund(CALL, 1.0)
    history.refund(CALL, 2.0)
    assert refunds == [1]
    assert history.find(CALL, "b", 3.0) is History.OTHER_SERVER


def test_a_request_that_nobody_answered_is_guilty_everywhere():
    history = make_history()
    history.convict(CALL, 1.0)
    assert history.find(CALL, "a", 2.0) is history.find(CALL, "b", 2.0) is History.GUILTY


def test_a_request_that_was_answered_is_innocent_for_good():
    refunds: list[int] = []
    history = make_history(lambda: refunds.append(1))
    history.acquit(CALL, 1.0)
    history.convict(CALL, 2.0)
    history.refund(CALL, 2.0)
    assert history.find(CALL, "b", 3.0) is History.INNOCENT
    assert not refunds


def test_a_later_answer_acquits_a_guilty_request():
    history = make_history()
    history.convict(CALL, 1.0)
    history.acquit(CALL, 2.0)
    assert history.find(CALL, "a", 3.0) is History.INNOCENT


@pytest.mark.parametrize("act", ["convict", "acquit", "refund"])
def test_a_request_that_never_failed_is_not_remembered(act: str):
    history = FailureHistory()
    getattr(history, act)(CALL, 0.0)
    assert history.find(CALL, "a", 0.0) is History.NEW


def test_failures_expire():
    assert make_history().find(CALL, "b", TTL) is History.NEW


def test_the_oldest_request_is_forgotten_when_there_are_too_many():
    history = make_history()
    for number in range(MAX_REQUESTS):
        history.add_charge(replace(CALL, body=b"%d" % number), "a", 1.0, do_nothing)
    assert history.find(CALL, "a", 1.0) is History.NEW
    assert len(history._requests) == MAX_REQUESTS
