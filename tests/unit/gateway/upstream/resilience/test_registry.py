"""All breakers together: shared by a server's models, reopened by health checks, dropped with their servers."""

from penstock.domain.errors import ConnectFailed, PenstockError, UpstreamCut, UpstreamStatus
from penstock.domain.fleet import Model, Server, ServerStatus, State
from penstock.gateway.upstream.resilience.breaker import CLOSED, NO_PERMITS, BreakerPair
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from tests.support.breakers import count_failure

BROKEN = UpstreamStatus("broken", status=500)


def record_failures(pair: BreakerPair, now: float, error: PenstockError = BROKEN, times: int = 1) -> None:
    for _ in range(times):
        count_failure(pair, NO_PERMITS, error, now, answered=isinstance(error, UpstreamStatus))


def test_one_refused_connection_opens_the_servers_breaker_for_all_its_models():
    registry = BreakerRegistry(lambda: 0.5)
    one, other = registry.get("a", "m"), registry.get("a", "n")
    record_failures(one, 0.0, ConnectFailed("refused"))
    assert not other.allows(0.0)
    assert other.server.unreachable
    assert other.model.state == CLOSED


def status(state: State, at: float) -> ServerStatus:
    return ServerStatus(Server("a", "vllm", ("http://a",)), state, "http://a", (Model("m"),), checked_at=at)


def test_a_successful_health_check_of_a_dead_server_allows_a_probe_at_once():
    registry = BreakerRegistry(lambda: 0.5)
    pair = registry.get("a", "m")
    record_failures(pair, 0.0, UpstreamCut("cut"), times=3)
    registry.update_from_health_checks([status(State.DOWN, 0.1)], 0.0)
    assert not pair.allows(0.2)
    registry.update_from_health_checks([status(State.UP, 0.3)], 0.0)
    assert pair.allows(0.3)
    pair.acquire(0.3)
    assert not pair.allows(0.3)


def test_a_health_check_after_a_refused_connection_allows_a_probe_at_once():
    registry = BreakerRegistry(lambda: 0.5)
    pair = registry.get("a", "m")
    registry.update_from_health_checks([status(State.UP, 0.0)], 0.0)
    record_failures(pair, 1.0, ConnectFailed("refused"))
    registry.update_from_health_checks([status(State.UP, 0.5)], 0.0)  # it began before
    assert not pair.allows(1.1)
    registry.update_from_health_checks([status(State.UP, 1.2)], 0.0)
    assert pair.allows(1.2)


def test_a_health_check_does_not_reopen_a_model_that_responds_with_errors():
    registry = BreakerRegistry(lambda: 0.5)
    pair = registry.get("a", "m")
    record_failures(pair, 0.0, times=3)
    registry.update_from_health_checks([status(State.DOWN, 0.1)], 0.0)
    registry.update_from_health_checks([status(State.UP, 0.2)], 0.0)
    assert not pair.allows(0.3)


def test_old_failures_expire_so_that_calls_are_no_longer_tracked():
    registry = BreakerRegistry(lambda: 0.5)
    pair = registry.get("a", "m")
    assert not pair.is_tracking
    record_failures(pair, 0.0)
    pair.record_success(NO_PERMITS, 1.0)
    registry.update_from_health_checks([status(State.UP, 2.0)], 2.0)
    assert pair.is_tracking
    registry.update_from_health_checks([status(State.UP, 31.0)], 31.0)
    assert not pair.is_tracking


def test_breakers_of_removed_servers_are_dropped_unless_they_track_failures():
    registry = BreakerRegistry(lambda: 0.5)
    registry.get("a", "m")
    record_failures(registry.get("a", "bad"), 0.0, times=3)
    registry.get("b", "m")
    registry.update_from_health_checks([], 0.0)
    assert set(registry.list_states()) == {("a", ""), ("a", "bad")}
