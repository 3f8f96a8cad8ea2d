"""Calls are counted under the model and server that they ended on."""

from typing import Any

from penstock.domain.errors import NoServer
from penstock.domain.response import Usage
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.observers import MetricsRecorder
from tests.unit.gateway.finished_contexts import FakeRelay, finished_context


def test_a_call_is_counted_in_the_series_of_its_deployment():
    meter = Meter()
    ctx = finished_context(series=meter.series_of("m", "s"), relay=FakeRelay(Usage(3, 4)), first_byte_at=100.5)
    MetricsRecorder(meter).observe_call(ctx)
    snapshot = meter.take_snapshot(101.0)
    ((model,), (server,)) = (snapshot.models, snapshot.servers)
    assert (model.name, server.name, snapshot.wires) == ("m", "s", {"openai.chat": 1})
    assert (model.streamed, model.fallbacks, model.prompt_tokens, model.completion_tokens) == (1, 0, 3, 4)
    assert (model.latency.mean, model.ttft.mean) == (1.0, 0.5)
    assert snapshot.last_minute.requests == 1


def test_a_stream_that_reports_no_usage_is_taken_for_a_token_a_piece():
    meter = Meter()
    ctx = finished_context(series=meter.series_of("m", "s"), relay=FakeRelay(None, piece_count=17))
    MetricsRecorder(meter).observe_call(ctx)
    assert meter.take_snapshot(0.0).all.completion_tokens == 17
    assert ctx.usage.estimated


def test_a_call_that_reached_no_server_is_counted_without_labels():
    meter = Meter()
    MetricsRecorder(meter).observe_call(finished_context(attempts=0, failure=NoServer("No server is up.")))
    snapshot = meter.take_snapshot(0.0)
    assert (snapshot.codes, snapshot.models, snapshot.servers) == ({"no_server": 1}, (), ())
    assert b'model="",server="",code="no_server"} 1' in meter.render_prometheus()


def test_a_second_attempt_is_a_fallback():
    meter = Meter()
    MetricsRecorder(meter).observe_call(finished_context(series=meter.series_of("m", "s"), attempts=2))
    assert meter.take_snapshot(0.0).all.fallbacks == 1


def test_a_disconnected_client_counts_as_that_whatever_error_followed():
    meter = Meter()
    ctx = finished_context(failure=NoServer("No server is up."))
    client: Any = ctx.client
    client.is_disconnected = True
    MetricsRecorder(meter).observe_call(ctx)
    assert meter.take_snapshot(0.0).codes == {"client_gone": 1}
