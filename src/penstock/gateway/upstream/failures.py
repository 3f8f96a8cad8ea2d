"""Decide what a failed attempt means for its call, and which error the client gets in the end. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from penstock.domain.errors import (
    ConnectFailed,
    ModelNotFound,
    NoServer,
    PenstockError,
    RateLimited,
    Unsupported,
    UpstreamTimeout,
)
from penstock.domain.fleet import Deployment
from penstock.domain.request import Operation
from penstock.gateway.request_context import RelayedResponse, RequestContext
from penstock.gateway.upstream.resilience.breaker import BreakerPair

_BUSY_STATUSES = frozenset({425, 429, 503})

ErrorT = TypeVar("ErrorT", bound=PenstockError)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt: the candidate's index, the error, and whether the server had the request."""

    index: int
    error: PenstockError
    request_sent: bool

    @property
    def is_busy(self) -> bool:
        """True if the server may accept the same request in a moment."""
        return self.error.status in _BUSY_STATUSES

    @property
    def is_unreachable(self) -> bool:
        """True if the server accepted no connection or did not respond in time."""
        return isinstance(self.error, ConnectFailed | UpstreamTimeout)


def describe_failure(index: int, error: PenstockError, relay: RelayedResponse | None) -> FailedAttempt:
    """Return the failed attempt on the candidate with this index."""
    request_sent = relay is not None and relay.request_sent and not isinstance(error, ConnectFailed)
    return FailedAttempt(index, error, request_sent)


def is_final(ctx: RequestContext, error: PenstockError) -> bool:
    """Return whether no other attempt can help."""
    if ctx.client.is_disconnected:
        return True
    if ctx.client.response_started:
        return ctx.stream is None or ctx.stream.interrupted is None
    if not error.retryable and not isinstance(error, Unsupported | ModelNotFound):
        return True
    # The server may have managed its models already: such work must not be done twice.
    return ctx.call.operation is Operation.MANAGE and not isinstance(error, ConnectFailed)


def summarize_failures(
    failed: Sequence[tuple[Deployment, PenstockError]], blocked: Sequence[tuple[Deployment, BreakerPair]], now: float
) -> PenstockError:
    """Return the error for the client. `failed` are the attempts, `blocked` the candidates that breakers excluded."""
    failures = [(deployment, _breaker_error(deployment, breakers, now)) for deployment, breakers in blocked]
    failures += failed
    errors = [error for _, error in failures]
    if all(isinstance(error, ConnectFailed) for error in errors):
        return NoServer(_describe_unreachable(failures), retry_after=5)
    responses = [error for error in errors if not isinstance(error, ConnectFailed)]
    retryable = [error for error in responses if error.retryable]
    error = (retryable or responses)[-1]
    if all(each.status in (429, 503) for each in errors):
        retry_after = min((each.retry_after for each in errors if each.retry_after is not None), default=1.0)
        if all(each.status == 429 for each in errors):
            return RateLimited(error.message, retry_after=retry_after)
        return _with_retry_after(error, retry_after)
    return error


def _describe_unreachable(failures: Sequence[tuple[Deployment, PenstockError]]) -> str:
    """Return a message that names each server, why it could not be reached, and where its address is set."""
    reasons = []
    for deployment, error in failures:
        server = deployment.server
        setting = f" Its address is set in {server.setting}." if server.setting else ""
        reasons.append(f"{server.name}: {error.message}{setting}")
    return "No server can be reached. " + " ".join(reasons)


def _with_retry_after(error: ErrorT, retry_after: float) -> ErrorT:
    """Return a copy of an error with another `retry_after`: the error itself belongs to its attempt."""
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__, retry_after=retry_after)
    return copied


def _breaker_error(deployment: Deployment, breakers: BreakerPair, now: float) -> PenstockError:
    """Return the error for a server that a breaker excluded."""
    if breakers.server.connect_error is not None:
        return breakers.server.connect_error
    wait = max(0.1, breakers.seconds_until_allowed(now))
    name = deployment.server.name
    return NoServer(f"{name} has just failed and gets no requests for {wait:.1f} s. Retry then.", retry_after=wait)
