"""The error that a client gets when no candidate could respond."""

import pytest

from penstock.domain.errors import ConnectFailed, PenstockError, RateLimited, UpstreamStatus
from penstock.domain.fleet import Deployment, Model, Server
from penstock.gateway.upstream.failures import FailedAttempt, summarize_failures


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
    ("error", "is_busy", "is_unreachable"),
    [(status(503), True, False), (status(500), False, False), (ConnectFailed("refused"), False, True)],
)
def test_a_failed_attempt_says_whether_the_server_is_busy_or_unreachable(
    error: PenstockError, is_busy: bool, is_unreachable: bool
):
    failure = FailedAttempt(0, error, request_sent=True)
    assert (failure.is_busy, failure.is_unreachable) == (is_busy, is_unreachable)
