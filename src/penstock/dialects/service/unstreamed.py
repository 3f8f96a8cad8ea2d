"""Base of endpoints whose response is one JSON object of the gateway's own."""

from penstock.dialects.service.metadata import parse_token_counts
from penstock.domain.response import Usage


class UnstreamedEndpoint:
    """Base of endpoints that answer with one JSON object; it has the token counts."""

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the token counts of a complete body."""
        return parse_token_counts(tail)

    def is_complete(self, tail: bytes) -> bool:
        """Return whether the object is closed."""
        return tail.rstrip().endswith(b"}")
