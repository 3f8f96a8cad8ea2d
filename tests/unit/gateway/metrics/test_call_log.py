"""The log of the last calls is bounded and finds calls by their end."""

from penstock.domain.response import Usage
from penstock.gateway.metrics.call_log import CallLog
from penstock.gateway.metrics.series import CallOutcome


def outcomes(*ends: float) -> list[CallOutcome]:
    return [CallOutcome("ok", Usage(), 0.0, 1.0, ended_at) for ended_at in ends]


def test_the_log_keeps_the_last_calls_only():
    log = CallLog(max_calls=10)
    for n in range(50):
        log.append_batch(outcomes(float(n)))
    assert len(log) == 10
    assert [outcome.ended_at for outcome in log.outcomes_since(0.0)] == [float(n) for n in range(40, 50)]


def test_calls_are_found_by_when_they_ended_in_whatever_order_batches_come():
    log = CallLog()
    log.append_batch(outcomes(5.0, 9.0))
    log.append_batch(outcomes(1.0, 7.0))
    assert {outcome.ended_at for outcome in log.outcomes_since(7.0)} == {7.0, 9.0}
