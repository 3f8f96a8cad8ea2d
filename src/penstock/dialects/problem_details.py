"""RFC 9457 problem details."""

from http import HTTPStatus

import msgspec

from penstock.dialects.service import metadata
from penstock.domain.errors import PenstockError


def problem(error: PenstockError, request_id: str) -> bytes:
    """An error as RFC 9457 problem details, with its code beside."""
    fault = metadata.fault(error, request_id)
    detail = fault.pop("message")
    try:
        title = HTTPStatus(error.status).phrase
    except ValueError:
        title = "Error"
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": error.status, "detail": detail} | fault
    )
