"""Observer that writes a log line about every call that failed."""

import logging
from collections.abc import Callable

from penstock.gateway.request_context import RequestContext

log = logging.getLogger("penstock.gateway")

LINES_PER_SECOND = 10.0
BURST = 100.0
"""Lines that may be written at once; the log must not grow with what strangers send."""
MAX_TEXT_LENGTH = 200


class FailureLog:
    """Logs failed calls with their ids, at a bounded rate. `clock` gives monotonic seconds.

    A client that disconnected did not fail. Failures of the gateway itself are errors, those of servers are warnings,
    and what the caller has to change is information.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines_left = BURST
        self._refilled_at = clock()
        self._suppressed = 0

    def observe_call(self, ctx: RequestContext) -> None:
        """Write the line of a call that failed."""
        failure = ctx.failure
        if failure is None or ctx.client.is_disconnected:
            return
        if not self._may_write():
            self._suppressed += 1
            return
        if self._suppressed:
            log.warning("%d failed calls were not logged, because there were too many.", self._suppressed)
            self._suppressed = 0
        level = logging.INFO if failure.status < 500 else logging.WARNING
        if failure.code == "internal_error":
            level = logging.ERROR
        deployment = ctx.deployment
        fields = {
            "request_id": ctx.client.request_id,
            "route": ctx.endpoint.paths[0],
            "model": _shorten(ctx.call.model if deployment is None else deployment.model.name) or "-",
            "server": "-" if deployment is None else deployment.server.name,
            "status": failure.status,
            "code": failure.code,
            "seconds": round(ctx.finished_at - ctx.started_at, 3),
        }
        log.log(
            level,
            "Call %s to %s failed: %s %d after %.3f s (model %s, server %s): %s",
            *(fields["request_id"], fields["route"], failure.code, failure.status, fields["seconds"]),
            *(fields["model"], fields["server"], _shorten(failure.message)),
            extra=fields,
        )

    def _may_write(self) -> bool:
        now = self._clock()
        self._lines_left = min(BURST, self._lines_left + (now - self._refilled_at) * LINES_PER_SECOND)
        self._refilled_at = now
        if self._lines_left < 1:
            return False
        self._lines_left -= 1
        return True


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT_LENGTH else f"{text[:MAX_TEXT_LENGTH]}…"
