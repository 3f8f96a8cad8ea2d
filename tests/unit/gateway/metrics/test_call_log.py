"""The log of the last calls is bounded and finds calls by their end."""

from penstock.gateway.metrics.call_log import CallLog, RecentCalls


def append_calls(log: CallLog, *ends: float, code: str = "ok") -> None:
    log.append_batch(ends, [code] * len(ends), [2] * len(ends), [3] * len(ends))


def test_the_log_keeps_the_last_calls_only():
    log = CallLog(max_calls=10)
    for n in range(50):
        append_calls(log, float(n))
    assert len(log) == 10
    assert log.count_since(0.0).requests == 10
    assert log.count_since(40.0).requests == 10
    assert log.count_since(41.0).requests == 9


def test_calls_are_found_by_when_they_ended_in_whatever_order_batches_come():
    log = CallLog()
    append_calls(log, 5.0, 9.0, code="no_server")
    append_calls(log, 1.0, 7.0)
    append_calls(log, 8.0, code="client_gone")
    assert log.count_since(7.0) == RecentCalls(requests=3, errors=1, tokens=15)
