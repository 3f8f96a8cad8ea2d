"""Receiver of a model server's response."""

from typing import Protocol

from penstock.domain.errors import PenstockError

Headers = dict[bytes, bytes]


class ResponseSink(Protocol):
    """Receiver of one response. Called from the event loop, never after `on_end` or `on_failure`."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Receive status and headers (names in lower case) of the final response."""
        ...

    def on_body(self, data: bytes) -> None:
        """Receive a piece of the body, without transfer coding."""
        ...

    def on_end(self, is_delimited: bool) -> None:
        """End the response. `is_delimited`: a length or a last chunk marked the end, not only the closed connection."""
        ...

    def on_failure(self, error: PenstockError) -> None:
        """End an incomplete response."""
        ...

    def unsent_bytes(self) -> int:
        """Return the bytes of the response that its client has not received yet."""
        ...

    def has_progressed(self) -> bool:
        """Return whether the pieces since the last call were more than a sign of life. Called by the sweep."""
        ...
