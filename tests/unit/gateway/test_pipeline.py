"""Lifecycle of a call: every call ends once, releases its resources and reaches every observer."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import ClientGone, InvalidRequest, ModelNotFound, NoServer, PenstockError, UpstreamCut
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.client import RoutingHints
from penstock.gateway.coroutine_runner import run_now
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.observers import MetricsRecorder
from penstock.gateway.observers.base import CallObserver
from penstock.gateway.pipeline import Pipeline
from penstock.gateway.request_context import UNREAD_CALL, UNROUTED, RequestContext
from penstock.gateway.routing.complexity.classifier import Classifier
from tests.unit.gateway.finished_contexts import FakeRelay
from tests.unit.gateway.recording_client import RecordingClient

DEPLOYMENT = Deployment(Server("s", "vllm", ("http://s:1",)), Model("m"), "http://s:1", 2)
DECISION = Decision((Candidate(DEPLOYMENT),), "the only server with the model")
READ_CALL = Call("openai.chat", Operation.CHAT, "m", False, b"{}")


class PipelineClient(RecordingClient):
    """Records errors, too."""

    error: PenstockError | None = None

    def send_error(self, error: PenstockError) -> None:
        assert not self.response_started
        self.response_started, self.status, self.error, self.ended = True, error.status, error, "complete"


class FakeEndpoint:
    wire = "openai.chat"

    def __init__(self, call: Call = READ_CALL, error: PenstockError | None = None) -> None:
        self.call = call
        self.error = error

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        if self.error is not None:
            raise self.error
        return self.call


class FakeRouter:
    """Decides for the only deployment, as soon as the model is known."""

    def __init__(self, is_known: bool = True) -> None:
        self.is_known = is_known
        self.calls: list[Call] = []

    def should_select_model(self, fleet: object, call: Call) -> bool:
        return False

    def decide(self, fleet: object, call: Call, loads: object, now: float) -> Decision:
        self.calls.append(call)
        if not self.is_known:
            raise ModelNotFound("No server has this model.")
        return DECISION


class FakeFailover:
    """Runs `forward_call` in place of attempts."""

    def __init__(self, forward_call: Callable[[RequestContext], None]) -> None:
        self._forward_call = forward_call

    async def forward(self, ctx: RequestContext) -> None:
        ctx.attempts, ctx.deployment = 1, DEPLOYMENT
        self._forward_call(ctx)


@dataclass(eq=False)
class RecordingObserver:
    """Appends its name to `log` for each call, then raises `error` if it has one."""

    name: str = "observer"
    log: list[str] = field(default_factory=list)
    error: Exception | None = None
    contexts: list[RequestContext] = field(default_factory=list)

    def observe_call(self, ctx: RequestContext) -> None:
        self.log.append(self.name)
        self.contexts.append(ctx)
        if self.error is not None:
            raise self.error


def answer(ctx: RequestContext) -> None:
    relay: Any = FakeRelay(Usage(3, 4))
    ctx.relay = relay
    ctx.client.send_response(200, b"text/plain", b"", b"hello")


def fail_with(error: Exception) -> Callable[[RequestContext], None]:
    def forward_call(ctx: RequestContext) -> None:
        raise error

    return forward_call


def break_off(ctx: RequestContext) -> None:
    ctx.client.start_response(b"text/plain", b"", b"hel")
    raise UpstreamCut("The server closed the connection.")


def disconnect(ctx: RequestContext) -> None:
    client: Any = ctx.client
    client.is_disconnected = True
    raise ClientGone("The client disconnected.")


def pipeline_of(
    *observers: CallObserver,
    forward_call: Callable[[RequestContext], None] = answer,
    router: FakeRouter | None = None,
    probe_servers: Callable[[], Any] = lambda: None,
) -> Pipeline:
    parts: Any = {"router": router or FakeRouter(), "failover": FakeFailover(forward_call)}
    times = iter(range(1, 1_000_000))
    return Pipeline(
        catalog=Catalog(),
        observers=observers,
        classifier=Classifier(1.0),
        clock=lambda: float(next(times)),
        probe_servers=probe_servers,
        **parts,
    )


def run_call(pipeline: Pipeline, client: PipelineClient | None = None, **endpoint: Any) -> PipelineClient:
    client = client or PipelineClient()
    caller: Any = client
    callee: Any = FakeEndpoint(**endpoint)
    run_now(pipeline.run_call(caller, callee, b"{}", b"application/json"))
    return client


async def test_observers_see_a_finished_call_in_their_order():
    log: list[str] = []
    first, second = RecordingObserver("first", log), RecordingObserver("second", log)
    client = run_call(pipeline_of(first, second))
    assert (client.status, client.body, log) == (200, b"hello", ["first", "second"])
    (ctx,) = first.contexts
    assert (ctx.call, ctx.decision, ctx.deployment, ctx.code) == (READ_CALL, DECISION, DEPLOYMENT, "ok")
    assert (ctx.usage, ctx.finished_at > ctx.started_at) == (Usage(3, 4), True)


async def test_observers_run_after_the_client_has_its_error():
    class ErrorWatcher:
        def observe_call(self, ctx: RequestContext) -> None:
            client: Any = ctx.client
            seen.append(client.error)

    seen: list[PenstockError] = []
    error = NoServer("No server is up.")
    run_call(pipeline_of(ErrorWatcher(), forward_call=fail_with(error)))
    assert seen == [error]


async def test_an_observer_that_raises_costs_neither_the_call_nor_the_others_anything():
    broken, other = RecordingObserver(error=ValueError("broken")), RecordingObserver()
    pipeline = pipeline_of(broken, other)
    client = run_call(pipeline)
    assert (client.status, client.body, client.ended) == (200, b"hello", "complete")
    assert (len(other.contexts), pipeline.running) == (1, 0)


async def test_an_observers_error_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture):
    broken = RecordingObserver(error=ValueError("broken"))
    pipeline = pipeline_of(broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            run_call(pipeline)
        (record,) = caplog.records
        assert "RecordingObserver" in record.getMessage()
        assert "broken" in caplog.text
        broken.error = KeyError("other")
        run_call(pipeline)
    assert len(caplog.records) == 2


async def test_a_failure_before_the_response_reaches_the_client_and_the_observers():
    observer = RecordingObserver()
    error = NoServer("No server is up.")
    client = run_call(pipeline_of(observer, forward_call=fail_with(error)))
    assert (client.error, client.status) == (error, 503)
    assert (observer.contexts[0].failure, observer.contexts[0].code) == (error, "no_server")


async def test_a_failure_after_the_response_has_started_is_not_sent_again():
    observer = RecordingObserver()
    client = run_call(pipeline_of(observer, forward_call=break_off))
    assert (client.error, client.body) == (None, b"hel")
    assert observer.contexts[0].code == "upstream_error"


async def test_a_client_that_disconnects_gets_no_error_and_is_counted_as_gone():
    observer, meter = RecordingObserver(), Meter()
    client = run_call(pipeline_of(observer, MetricsRecorder(meter), forward_call=disconnect))
    assert (client.error, client.response_started) == (None, False)
    assert observer.contexts[0].code == "client_gone"
    snapshot = meter.take_snapshot(0.0)
    assert (snapshot.all.disconnects, snapshot.all.errors) == (1, 0)


async def test_an_error_of_the_gateway_itself_is_logged_and_hidden(caplog: pytest.LogCaptureFixture):
    observer = RecordingObserver()
    with caplog.at_level(logging.ERROR):
        client = run_call(pipeline_of(observer, forward_call=fail_with(ZeroDivisionError("secret"))))
    assert (client.status, observer.contexts[0].code) == (500, "internal_error")
    assert "secret" not in str(client.error)
    assert "secret" in caplog.text


async def test_a_call_that_cannot_be_read_is_observed_as_unread():
    observer = RecordingObserver()
    client = run_call(pipeline_of(observer), error=InvalidRequest("The body is not valid JSON."))
    (ctx,) = observer.contexts
    assert (client.status, ctx.call, ctx.decision, ctx.deployment) == (400, UNREAD_CALL, UNROUTED, None)


async def test_no_call_is_admitted_while_the_gateway_drains():
    observer = RecordingObserver()
    pipeline = pipeline_of(observer)
    pipeline.draining = True
    assert run_call(pipeline).status == 503
    assert observer.contexts[0].code == "shutting_down"


async def test_a_call_is_not_changed_after_it_was_read():
    router, client = FakeRouter(), PipelineClient()
    hints: Any = RoutingHints(20.0, b"session")
    client.routing_hints = hints
    run_call(pipeline_of(router=router), client)
    assert (READ_CALL.max_wait, READ_CALL.session) == (None, b"")
    assert (router.calls[0].max_wait, router.calls[0].session) == (20.0, b"session")


async def test_a_call_without_hints_is_routed_as_it_was_read():
    router = FakeRouter()
    run_call(pipeline_of(router=router))
    assert router.calls[0] is READ_CALL


async def test_an_unknown_model_is_searched_for_once_on_the_servers():
    router = FakeRouter(is_known=False)
    probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pipeline = pipeline_of(router=router, probe_servers=lambda: probe)
    client = run_call(pipeline)
    assert (client.response_started, pipeline.running) == (False, 1)
    router.is_known = True
    probe.set_result(None)
    await asyncio.sleep(0)
    assert (client.status, len(router.calls), pipeline.running) == (200, 2, 0)


@pytest.mark.parametrize("is_disconnected", [False, True])
async def test_a_model_that_no_server_has_is_not_found(is_disconnected: bool):
    observer, client = RecordingObserver(), PipelineClient()
    probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    router = FakeRouter(is_known=False)
    run_call(pipeline_of(observer, router=router, probe_servers=lambda: probe), client)
    client.is_disconnected = is_disconnected
    probe.cancel()  # a probe that is cancelled while the gateway stops counts as done
    await asyncio.sleep(0)
    expected = ("client_gone", 0) if is_disconnected else ("model_not_found", 404)
    assert (observer.contexts[0].code, client.status) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [answer, break_off, disconnect, fail_with(NoServer("No server.")), fail_with(ZeroDivisionError())]
            ),
            st.lists(st.booleans(), max_size=4),
        ),
        max_size=10,
    )
)
def test_every_call_ends_once_and_reaches_every_observer(calls):
    async def run_calls() -> None:
        for forward_call, failing in calls:
            observers = [RecordingObserver(error=ValueError() if fails else None) for fails in failing]
            pipeline = pipeline_of(*observers, forward_call=forward_call)
            client = run_call(pipeline)
            assert (pipeline.running, client.upstream) == (0, None)
            assert [len(observer.contexts) for observer in observers] == [1] * len(failing)
            assert client.response_started != client.is_disconnected

    asyncio.run(run_calls())
