"""The log of failed calls."""

import logging

import pytest

from penstock.domain.errors import InvalidRequest, PenstockError, UpstreamError
from penstock.gateway.observers.failure_log import BURST, FailureLog
from tests.unit.gateway.finished_contexts import finished_context


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "penstock.gateway")
    return caplog


@pytest.mark.parametrize(
    ("failure", "level"),
    [(InvalidRequest("No."), "INFO"), (UpstreamError("Cut."), "WARNING"), (PenstockError("Fault."), "ERROR")],
)
def test_a_failed_call_has_one_line(log: pytest.LogCaptureFixture, failure: PenstockError, level: str):
    ctx = finished_context(failure=failure)
    FailureLog(lambda: 0.0).observe_call(ctx)
    (record,) = log.records
    assert record.levelname == level
    for part in (ctx.client.request_id, "/v1/chat/completions", failure.code, "after 1.000 s", "model m", "server -"):
        assert part in record.getMessage()
    assert record.__dict__["request_id"] == ctx.client.request_id


def test_calls_that_succeed_or_whose_client_is_gone_have_none(log: pytest.LogCaptureFixture):
    observer = FailureLog(lambda: 0.0)
    observer.observe_call(finished_context())
    gone = finished_context(failure=UpstreamError("Cut."))
    gone.client.is_disconnected = True  # type: ignore[misc]
    observer.observe_call(gone)
    assert not log.records


def test_the_lines_are_bounded_and_the_rest_is_counted(log: pytest.LogCaptureFixture):
    now = 0.0
    observer = FailureLog(lambda: now)
    for _ in range(1000):
        observer.observe_call(finished_context(failure=InvalidRequest("x" * 10_000)))
    assert len(log.records) == BURST
    assert max(len(record.getMessage()) for record in log.records) < 500
    now = 1.0
    observer.observe_call(finished_context(failure=InvalidRequest("No.")))
    assert "900 failed calls were not logged" in log.records[-2].getMessage()
