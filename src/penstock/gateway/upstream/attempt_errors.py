"""What a failed try means for the call, and what to tell a client when nobody could answer."""

from collections.abc import Sequence

from penstock.domain.errors import ConnectFailed, ModelNotFound, NoServer, PenstockError, RateLimited, Unsupported
from penstock.domain.fleet import Deployment
from penstock.domain.request import Operation
from penstock.gateway.request_context import RelayedResponse, RequestContext
from penstock.gateway.upstream.resilience.breaker import BreakerPair


def sent(error: PenstockError, relay: RelayedResponse | None) -> bool:
    """Whether the engine had the request."""
    return relay is not None and relay.request_sent and not isinstance(error, ConnectFailed)


def final(ctx: RequestContext, error: PenstockError) -> bool:
    """Whether no other try can mend it."""
    client, call, stream = ctx.client, ctx.call, ctx.stream
    if client.is_disconnected:
        return True
    if client.response_started:
        return stream is None or stream.interrupted is None
    if not error.retryable and not isinstance(error, Unsupported | ModelNotFound):
        return True
    # management may have been done: it is not to be done twice
    return call.operation is Operation.MANAGE and not isinstance(error, ConnectFailed)


def sum_up(
    failed: Sequence[tuple[Deployment, PenstockError]], shut: Sequence[tuple[Deployment, BreakerPair]], now: float
) -> PenstockError:
    """The error to tell. `failed` are the tries, `shut` what breakers kept the call from."""
    told = [(deployment, _resting(deployment, guard, now)) for deployment, guard in shut] + list(failed)
    if all(isinstance(error, ConnectFailed) for _, error in told):
        why = "; ".join(
            f"{deployment.server.name}: {error.message}"
            + (f" (its address is set in {deployment.server.setting})" if deployment.server.setting else "")
            for deployment, error in told
        )
        return NoServer(f"no server can answer just now: {why}", retry_after=5)
    errors = [error for _, error in told]
    telling = [error for error in errors if error.retryable and not isinstance(error, ConnectFailed)] or [
        error for error in errors if not isinstance(error, ConnectFailed)
    ]
    if all(error.status in (429, 503) for error in errors):
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        telling[-1].retry_after = min(waits, default=1.0)
        if all(error.status == 429 for error in errors):
            return RateLimited(telling[-1].message, retry_after=telling[-1].retry_after)
    return telling[-1]


def _resting(deployment: Deployment, guard: BreakerPair, now: float) -> PenstockError:
    """Why a server is left alone."""
    if guard.server.connect_error is not None:
        return guard.server.connect_error
    wait = max(0.1, guard.seconds_until_allowed(now))
    return NoServer(
        f"{deployment.server.name} has failed just now and is left alone for {wait:.1f} s", retry_after=wait
    )
