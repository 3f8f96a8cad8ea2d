"""Problem details of RFC 9457."""

from http import HTTPStatus

import msgspec

from penstock.dialects.service.metadata import build_error_fields
from penstock.domain.errors import PenstockError


def render_problem(error: PenstockError, request_id: str) -> bytes:
    """Render an error as RFC 9457 problem details, with the members of the service API beside."""
    fields = build_error_fields(error, request_id)
    detail = fields.pop("message")
    try:
        title = HTTPStatus(error.status).phrase
    except ValueError:
        title = "Error"
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": error.status, "detail": detail} | fields
    )
