"""Observer that counts calls in the metrics."""

from penstock.gateway.metrics.meter import Meter
from penstock.gateway.metrics.series import CLIENT_GONE, CallOutcome
from penstock.gateway.request_context import RequestContext


class MetricsRecorder:
    """Records each call in the series of the deployment that it ended on."""

    def __init__(self, meter: Meter) -> None:
        self._series_without_server = meter.series_of("", "")

    def observe_call(self, ctx: RequestContext) -> None:
        """Record the outcome. A client that disconnected is counted as that, whatever error followed."""
        client, started_at, finished_at = ctx.client, ctx.started_at, ctx.finished_at
        first_byte_at = client.first_byte_at
        outcome = CallOutcome(
            CLIENT_GONE if client.is_disconnected else ctx.code,
            ctx.usage,
            first_byte_at - started_at if first_byte_at else 0.0,
            finished_at - started_at,
            finished_at,
        )
        series = self._series_without_server if ctx.series is None else ctx.series
        series[ctx.endpoint.wire].record(outcome, ctx.call.stream, ctx.attempts > 1)
