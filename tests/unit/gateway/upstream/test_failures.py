"""The error that a client gets when no candidate could respond."""

from dataclasses import replace

import pytest

from penstock.domain.errors import ConnectFailed, PenstockError, RateLimited, UpstreamStatus
from penstock.domain.fault import Fault
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.gateway.upstream.blame.verdict import judge_failure
from penstock.gateway.upstream.failures import (
    BUSY_PATIENCE_SECONDS,
    FailedAttempt,
    give_up_at,
    is_guilty,
    summarize_failures,
)
from penstock.gateway.upstream.resilience.retry_plan import Retry


def deployment(name: str, setting: str = "") -> Deployment:
    url = f"http://{name}"
    return Deployment(Server(name, "vllm", (url,), setting=setting), Model("m"), url, 1)


def status(number: int, retry_after: float | None = None) -> UpstreamStatus:
    return UpstreamStatus("busy", status=number, retry_after=retry_after)


def test_the_shortest_wait_is_reported_without_changing_an_attempts_error():
    first, last = status(429, 3.0), status(503, 7.0)
    error = summarize_failures([(deployment("a"), first), (deployment("b"), last)], [], 0.0)
    assert (type(error), error.status, error.message, error.retry_after) == (UpstreamStatus, 503, "busy", 3.0)
    assert error is not last
    assert (first.retry_after, last.retry_after) == (3.0, 7.0)


def test_servers_that_are_all_rate_limited_make_one_rate_limit():
    error = summarize_failures([(deployment("a"), status(429)), (deployment("b"), status(429, 2.0))], [], 0.0)
    assert (type(error), error.retry_after) == (RateLimited, 2.0)


def test_unreachable_servers_are_named_with_the_setting_of_their_address():
    refused = ConnectFailed("Cannot connect to http://a: connection refused.")
    error = summarize_failures([(deployment("a", "OLLAMA_BASE_URL"), refused), (deployment("b"), refused)], [], 0.0)
    assert error.message == (
        "No server can be reached. a: Cannot connect to http://a: connection refused. Its address is set in "
        "OLLAMA_BASE_URL. b: Cannot connect to http://a: connection refused."
    )


@pytest.mark.parametrize(
    ("error", "retry", "is_unreachable"),
    [
        (status(503), Retry.WHILE_PATIENT, False),
        (UpstreamStatus("gone fishing", status=503), Retry.ONCE, False),
        (status(500), Retry.NEVER, False),
        (ConnectFailed("refused"), Retry.NEVER, True),
    ],
)
def test_a_failed_attempt_says_whether_the_server_may_be_asked_again(
    error: PenstockError, retry: Retry, is_unreachable: bool
):
    failure = FailedAttempt(0, error, judge_failure(error, answered=True), request_sent=True)
    assert (failure.retry, failure.is_unreachable) == (retry, is_unreachable)


def test_a_call_waits_for_busy_servers_as_long_as_its_caller_allows():
    call = Call("openai.chat", Operation.CHAT, "m", stream=False, body=b"{}")
    assert give_up_at(call, 10.0) == 10.0 + BUSY_PATIENCE_SECONDS
    assert give_up_at(replace(call, max_wait=2.0), 10.0) == 12.0


@pytest.mark.parametrize(
    ("faults", "candidates", "expected"),
    [
        ([Fault.MODEL, Fault.UNPROVEN], 2, True),
        ([Fault.MODEL, Fault.UNPROVEN], 3, False),
        ([Fault.MODEL], 1, False),
        ([Fault.MODEL, Fault.BUSY], 2, False),
        ([Fault.MODEL, Fault.UNREACHABLE], 2, False),
        ([Fault.MODEL, Fault.SERVER], 2, False),
        ([], 0, False),
    ],
)
def test_a_request_is_guilty_when_every_server_had_it_and_none_says_why_it_failed(
    faults: list[Fault], candidates: int, expected: bool
):
    failures = [FailedAttempt(index, status(500), fault, request_sent=True) for index, fault in enumerate(faults)]
    assert is_guilty(failures, candidates) is expected


def test_a_request_is_not_guilty_when_a_proxy_answered_for_the_server():
    failures = [FailedAttempt(index, status(502), Fault.MODEL, request_sent=True) for index in range(2)]
    assert not is_guilty(failures, 2)


def test_one_server_that_was_asked_twice_is_one():
    failures = [FailedAttempt(0, status(500), Fault.MODEL, request_sent=True)] * 2
    assert not is_guilty(failures, 2)
