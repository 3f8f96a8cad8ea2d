"""Error responses of Victoria."""

from penstock.domain.errors import PenstockError, UpstreamStatus
from penstock.engines.json_fields import decode_object
from penstock.engines.victoria.response import TITLE, find_text

_MAX_TEXT = 300  # bytes of a body that is not JSON


def parse_error_response(status: int, body: bytes, retry_after: float | None) -> PenstockError:
    """Return the error that an error response means."""
    reason = find_error_reason(body) or "It gave no reason."
    return UpstreamStatus(f"{TITLE} answered with status {status}: {reason}", status=status, retry_after=retry_after)


def find_error_reason(body: bytes) -> str:
    """Return the reason in an error body: `detail` (text or a list of {loc, msg}), `error`, `message` or plain text."""
    fields = decode_object(body)
    detail = fields.get("detail")
    if isinstance(detail, list):
        return "; ".join(filter(None, (find_text(item, ("msg", "message")) for item in detail)))
    if fields:
        return find_text(fields, ("detail", "error", "message", "output"))
    return body[:_MAX_TEXT].decode(errors="replace").strip()
