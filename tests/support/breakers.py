"""Access to circuit breakers for tests whose servers fail on purpose."""

from penstock.domain.errors import PenstockError
from penstock.gateway.upstream.blame.verdict import judge_failure
from penstock.gateway.upstream.resilience.breaker import BreakerPair, Permits
from penstock.gateway.upstream.resilience.registry import BreakerRegistry


def reset_breakers(registry: BreakerRegistry) -> None:
    """Forget all failures, in place: calls in flight keep their breakers."""
    for breaker in registry.list_breakers():
        breaker.__init__(registry.policy)  # type: ignore[misc]


def count_failure(pair: BreakerPair, permits: Permits, error: PenstockError, now: float, answered: bool) -> None:
    """Have a failure of a request that is new counted against whoever is to blame."""
    pair.record_failure(permits, error, now, judge_failure(error, answered=answered), answered)
