"""The decision log keeps the last decisions and nothing of the request's text."""

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import NoServer
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Decision
from penstock.gateway.observers import DecisionLog
from tests.unit.gateway.finished_contexts import finished_context


def test_a_record_contains_the_decision_and_the_outcome_of_the_call():
    log, decision = DecisionLog(), Decision((), "why")
    failure = NoServer("No server is up.")
    log.observe_call(finished_context(decision=decision, attempts=3, failure=failure, started_at=7.0))
    (record,) = log.records
    assert (record.started_at, record.request_id, record.wire) == (7.0, b"r-1", "openai.chat")
    assert (record.requested_model, record.decision, record.deployment) == ("m", decision, None)
    assert (record.attempts, record.code) == (3, "no_server")


def test_nothing_of_the_request_is_kept():
    log = DecisionLog()
    call = Call("openai.chat", Operation.CHAT, "m", False, b"secret", session=b"secret")
    log.observe_call(finished_context(call=call, decision=Decision((), "why")))
    (record,) = log.records
    assert not [value for value in record if "secret" in str(value)]


def test_a_call_without_a_decision_is_not_kept():
    log = DecisionLog()
    log.observe_call(finished_context())
    assert log.records == []


def test_the_oldest_records_drop_out():
    log = DecisionLog(max_decisions=2)
    for started_at in (1.0, 2.0, 3.0):
        log.observe_call(finished_context(decision=Decision((), "why"), started_at=started_at))
    assert [record.started_at for record in log.records] == [2.0, 3.0]


def test_calls_are_counted_by_level_where_the_gateway_selects_the_model():
    log = DecisionLog()
    profile = RequestProfile(Level.COMPLEX, TaskType.CODE)
    log.observe_call(finished_context(call=Call("w", Operation.CHAT, "", False, b"", profile=profile)))
    log.observe_call(finished_context())
    assert log.calls_by_level == {"complex": 1}
