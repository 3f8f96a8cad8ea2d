"""Observer that counts calls in the metrics."""

from penstock.gateway.metrics.meter import Meter
from penstock.gateway.metrics.series import CLIENT_GONE, create_outcome
from penstock.gateway.request_context import RequestContext


class MetricsRecorder:
    """Records each call in the series of the deployment that it ended on."""

    def __init__(self, meter: Meter) -> None:
        self._series_without_server = meter.series_of("", "")

    def observe_call(self, ctx: RequestContext) -> None:
        """Record the outcome. A client that disconnected is counted as that, whatever error followed."""
        client, usage = ctx.client, ctx.usage
        outcome = create_outcome(
            (
                CLIENT_GONE if client.is_disconnected else ctx.code,
                usage.prompt_tokens,
                usage.completion_tokens,
                ctx.started_at,
                client.first_byte_at,
                ctx.finished_at,
            )
        )
        series = self._series_without_server if ctx.series is None else ctx.series
        series[ctx.endpoint.wire].record(outcome, ctx.call.stream, ctx.attempts > 1)
