"""Request ids that callers may choose (`x-request-id`)."""

import re

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}\Z")


def is_acceptable_request_id(value: bytes) -> bool:
    """Return True if the value may be used in headers, logs and errors as it is."""
    return _ACCEPTABLE.match(value) is not None
