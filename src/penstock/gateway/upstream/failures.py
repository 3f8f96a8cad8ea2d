"""Decide what a failed attempt means for its call, and which error the client gets in the end. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from penstock.domain.errors import (
    ConnectFailed,
    NoServer,
    PenstockError,
    RateLimited,
    UpstreamTimeout,
)
from penstock.domain.fault import Fault
from penstock.domain.fleet import Deployment
from penstock.domain.request import Call, Operation
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.resilience.breaker import BreakerPair
from penstock.gateway.upstream.resilience.retry_plan import Retry

_UNEXPLAINED = (Fault.MODEL, Fault.UNPROVEN)
_MAY_BE_BUSY = 503  # in words that say nothing
BUSY_PATIENCE_SECONDS = 30.0
"""Seconds that a call waits for a server with room, where its caller sets no other limit."""

ErrorT = TypeVar("ErrorT", bound=PenstockError)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt: the candidate's index, the error, whose fault it is, and whether the server had the request."""

    index: int
    error: PenstockError
    fault: Fault
    request_sent: bool

    @property
    def retry(self) -> Retry:
        """Permission to send the request to the same server again."""
        if self.fault is Fault.BUSY:
            return Retry.WHILE_PATIENT
        return Retry.ONCE if self.error.status == _MAY_BE_BUSY else Retry.NEVER

    @property
    def is_unreachable(self) -> bool:
        """True if the server accepted no connection or did not respond in time."""
        return isinstance(self.error, ConnectFailed | UpstreamTimeout)


def describe_failure(index: int, error: PenstockError, ctx: RequestContext) -> FailedAttempt:
    """Return the failed attempt, described by `ctx`, on the candidate with this index."""
    request_sent = ctx.relay is not None and ctx.relay.request_sent and not isinstance(error, ConnectFailed)
    return FailedAttempt(index, error, ctx.fault, request_sent)


def is_final(ctx: RequestContext, failure: FailedAttempt) -> bool:
    """Return whether no other attempt can help."""
    if ctx.client.is_disconnected:
        return True
    if ctx.client.response_started:
        return ctx.stream is None or ctx.stream.interrupted is None
    if failure.fault.is_final:
        return True
    # The server may have managed its models already: such work must not be done twice.
    return ctx.call.operation is Operation.MANAGE and not isinstance(failure.error, ConnectFailed)


def is_guilty(failures: Sequence[FailedAttempt], candidates: int) -> bool:
    """Return whether the request is to blame: all of several servers had it, and failed in words that do not say why.

    A server that could not be reached or had no room might have answered it.
    """
    failed = {failure.index for failure in failures if failure.fault in _UNEXPLAINED and failure.error.status == 500}
    return len(failed) == candidates > 1


def give_up_at(call: Call, started_at: float) -> float:
    """Return the time until which a call may wait for busy servers, in monotonic seconds."""
    return started_at + (BUSY_PATIENCE_SECONDS if call.max_wait is None else call.max_wait)


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
