"""Judgement of failures on a fleet of two servers."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import PenstockError, RequestRefused, UpstreamCut, UpstreamStatus, UpstreamTimeout
from penstock.domain.fault import Fault
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.upstream.blame.court import MAX_DOUBTFUL_FAILURES, Court
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.targets import Target, Timeouts

BOOM = UpstreamStatus("boom", status=500)
SILENT = UpstreamTimeout("silent")
CUT = UpstreamCut("cut")


class Bench:
    """Two servers with the same model, and a court that judges what they answer."""

    def __init__(self) -> None:
        self.court = Court()
        self.breakers = BreakerRegistry(lambda: 0.5)
        self.targets = {name: self.create_target(name) for name in "ab"}
        self.now = 0.0

    def create_target(self, name: str) -> Target:
        unused = cast("Any", None)
        deployment = Deployment(Server(name, "vllm", (f"http://{name}",)), Model("m"), f"http://{name}", 1)
        breakers = self.breakers.get(name, "m")
        return Target(deployment, unused, unused, Timeouts(), ServerLoad(), breakers, unused)

    def fail(self, name: str, request: str, error: PenstockError = BOOM) -> Fault:
        """Have a request fail on a server, as a lease does."""
        self.now += 0.1
        call = Call("openai.chat", Operation.CHAT, "m", stream=False, body=request.encode())
        target, answered = self.targets[name], isinstance(error, UpstreamStatus)
        fault = self.court.judge(call, target, error, answered, self.now)
        target.breakers.record_failure(NO_PERMITS, error, self.now, fault, answered)
        if fault.is_charged or fault is Fault.UNPROVEN:
            target.load.consecutive_failures += 1
        return fault

    def answer(self, name: str, request: str) -> None:
        call = Call("openai.chat", Operation.CHAT, "m", stream=False, body=request.encode())
        self.targets[name].load.consecutive_failures = 0
        self.targets[name].breakers.record_success(NO_PERMITS, self.now)
        self.court.acquit(call, self.now)

    @property
    def is_healthy(self) -> bool:
        return all(target.breakers.is_healthy for target in self.targets.values())


@pytest.mark.parametrize("first", [BOOM, SILENT, CUT])
@pytest.mark.parametrize("second", [BOOM, SILENT, CUT])
def test_a_failure_that_repeats_on_a_second_server_is_charged_to_nobody(first: PenstockError, second: PenstockError):
    bench = Bench()
    assert bench.fail("a", "bad", first).is_charged
    assert bench.fail("b", "bad", second) is Fault.UNPROVEN
    assert bench.is_healthy


def test_a_failure_that_another_server_does_not_repeat_stays_charged():
    bench = Bench()
    for _ in range(3):
        assert bench.fail("a", "good") is Fault.MODEL
        bench.answer("b", "good")
    assert not bench.targets["a"].breakers.allows(bench.now)


def test_the_same_request_on_the_same_server_is_charged_once():
    bench = Bench()
    assert bench.fail("a", "bad") is Fault.MODEL
    bench.answer("a", "other")
    assert bench.fail("a", "bad") is Fault.UNPROVEN
    assert bench.targets["a"].breakers.allows(bench.now)


def test_where_everything_fails_the_servers_are_charged():
    bench = Bench()
    for number in range(3 * MAX_DOUBTFUL_FAILURES):
        bench.fail("a", f"request {number}")
        bench.fail("b", f"request {number}")
    assert not any(target.breakers.allows(bench.now) for target in bench.targets.values())


@given(st.lists(st.tuples(st.sampled_from(["bad 1", "bad 2", "bad 3"]), st.booleans()), max_size=40))
def test_no_breaker_opens_for_bad_requests_between_good_ones(calls: list[tuple[str, bool]]):
    bench = Bench()
    for request, is_reversed in calls:
        for name in "ba" if is_reversed else "ab":
            bench.fail(name, request)
            bench.answer(name, f"good on {name}")
    for target in bench.targets.values():
        assert target.breakers.allows(bench.now)


def test_a_refusal_is_nobodys_charge_however_often():
    bench = Bench()
    for _ in range(20):
        assert bench.fail("a", "bad", RequestRefused("mend it", status=500)) is Fault.REQUEST
    assert bench.is_healthy
