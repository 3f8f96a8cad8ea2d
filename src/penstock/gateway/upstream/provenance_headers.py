"""The header lines by which an answer says who gave it."""

from penstock.domain.fleet import Deployment
from penstock.domain.routing_decision import Decision

MAX_HEADS = 4096
ANOTHER = "another server failed"
"""Why a second choice answered."""


class Heads:
    """Draws them, once for each answerer and reason."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[str, str, str, bool, str], bytes] = {}

    def clear(self) -> None:
        """Draw all anew."""
        self._drawn.clear()

    def of(self, deployment: Deployment, decision: Decision, attempt: int) -> bytes:
        """The lines, each with its CRLF, when this deployment answers at this attempt (from 1)."""
        fallback = decision.fallback or attempt > 1
        reason = decision.reason if attempt == 1 else ANOTHER
        key = (deployment.server.name, deployment.model.name, reason, fallback, decision.level)
        head = self._drawn.get(key)
        if head is None:
            if len(self._drawn) >= MAX_HEADS:
                self._drawn.clear()
            lines = {
                "server": deployment.server.name,
                "model": deployment.model.name,
                "reason": reason,
                "fallback": str(fallback).lower(),
            }
            if decision.level:
                lines["complexity"] = decision.level
            if deployment.server.is_simulated:
                lines["simulated"] = "true"
            head = b"".join(b"x-penstock-%b: %b\r\n" % (name.encode(), _ascii(value)) for name, value in lines.items())
            self._drawn[key] = head
        return head


def _ascii(text: str) -> bytes:
    """A header value: what is not printable ASCII is percent-encoded as UTF-8."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 else b"%%%02X" % byte for byte in text.encode())
