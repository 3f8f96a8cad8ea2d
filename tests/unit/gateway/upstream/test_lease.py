"""Leases: an attempt returns exactly once all that it takes from shared state, however it ends."""

from typing import Any, cast

import pytest

from penstock.domain.errors import ClientGone, ConnectFailed, InvalidRequest, PenstockError, UpstreamStatus
from penstock.domain.fleet import Deployment, Model, Server
from penstock.gateway.client import CancellableSource
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.lease import Lease, LeaseContext
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.targets import Target, Targets, Timeouts
from tests.unit.gateway.recording_client import RecordingClient


class Bench:
    """A target of its own fleet, and leases of it; `reported` are the servers whose failure was reported."""

    def __init__(self) -> None:
        breakers = BreakerRegistry(lambda: 0.5)
        unused = cast("Any", None)
        server = Server("a", "ollama", ("http://a",))
        deployment = Deployment(server, Model("m", size=5), "http://a", 2, on_demand=True)
        self.load = ServerLoad()
        self.breakers = breakers.get("a", "m")
        self.target = Target(
            deployment,
            engine=unused,
            pool=unused,
            timeouts=Timeouts(),
            load=self.load,
            breakers=self.breakers,
            series=unused,
        )
        self.reported: list[str] = []
        self.leases = LeaseContext(
            Targets(unused, unused, breakers, self.read_clock), self.reported.append, self.read_clock
        )
        self.client = RecordingClient()
        self.ctx = RequestContext(self.client, unused, 0.0)
        self.now = 10.0

    def read_clock(self) -> float:
        return self.now

    def run(self, error: Exception | None = None) -> Lease:
        """Take a lease, check that it holds everything, and end its block, by `error` if there is one."""
        with Lease(self.leases, self.ctx, self.target) as lease:
            self.client.upstream = CancellableSource(lambda _: None)
            assert self.load.running == 1
            assert self.load.swap_queue.running == {"m": 1}
            if error is not None:
                raise error
        return lease

    def assert_returned(self) -> None:
        assert self.load.running == 0
        assert self.load.swap_queue.running == {}
        assert self.client.upstream is None
        assert not self.breakers.server.has_probe_in_flight
        assert not self.breakers.model.has_probe_in_flight


def test_a_lease_that_ends_well_returns_everything():
    bench = Bench()
    assert bench.run().error is None
    bench.assert_returned()
    assert bench.ctx.model_was_loaded is False
    assert bench.ctx.running_before == 0
    assert bench.load.last_call_number == 1
    assert not bench.reported


@pytest.mark.parametrize(
    ("error", "failures", "reported"),
    [
        (ConnectFailed("refused"), 1, ["a"]),
        (UpstreamStatus("busy", status=503), 1, []),
        (ClientGone("gone"), 0, []),
        (InvalidRequest("wrong"), 0, []),
    ],
)
def test_an_error_is_kept_and_counted_against_whoever_is_to_blame(
    error: PenstockError, failures: int, reported: list[str]
):
    bench = Bench()
    assert bench.run(error).error is error
    bench.assert_returned()
    assert (bench.load.consecutive_failures, bench.reported) == (failures, reported)
    assert (bench.load.traffic_share is not None) == bool(failures)


def test_an_unexpected_error_passes_and_returns_everything():
    bench = Bench()
    with pytest.raises(RuntimeError):
        bench.run(RuntimeError())
    bench.assert_returned()


def test_a_probe_returns_its_permit_even_when_it_ends_by_an_unexpected_error():
    bench = Bench()
    bench.run(ConnectFailed("refused"))
    bench.now += 60.0
    assert bench.breakers.allows(bench.now)
    with pytest.raises(RuntimeError):
        bench.run(RuntimeError())
    bench.assert_returned()
    assert bench.breakers.allows(bench.now)
    bench.run()
    assert bench.breakers.is_healthy
