"""The caller's side of a call as the gateway sees it; the serving layer implements it over a socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from penstock.domain.errors import PenstockError


class RoutingHints(NamedTuple):
    """Wishes in a request's headers: `max_wait` in seconds, and the session that the request belongs to."""

    max_wait: float | None = None
    session: bytes = b""


class Source(Protocol):
    """Producer of a client's response."""

    def pause(self) -> None:
        """Produce nothing until `resume`: the client is slow."""
        ...

    def resume(self) -> None:
        """Produce again."""
        ...

    def abort(self, error: PenstockError) -> None:
        """Stop: the rest is not needed. Whoever awaits the source gets `error`."""
        ...


class Client(Protocol):
    """The caller's side of one call. No method waits: when the caller is slow, `upstream` is paused.

    A response is either one `send_response`, or `start_response`, any number of `write`, then `finish`. `headers` are
    complete header lines, each with its CRLF.
    """

    upstream: Source | None
    """Producer of this client's response: paused while the client is slow, aborted when it disconnects."""

    keep_alive: bool
    """True if the client's connection stays open after this response."""

    routing_hints: RoutingHints | None
    """Wishes in the request's headers."""

    @property
    def id(self) -> bytes:
        """The request's id: sent by the caller, or created."""
        ...

    @property
    def request_id(self) -> str:
        """The request's id as text."""
        ...

    @property
    def is_disconnected(self) -> bool:
        """True once the client has disconnected."""
        ...

    @property
    def response_started(self) -> bool:
        """True once a byte of the response has been written."""
        ...

    @property
    def first_byte_at(self) -> float:
        """Loop time of the response's first byte; 0 before."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """Bytes of the response that the client has not received yet."""
        ...

    @property
    def accepts_chunked(self) -> bool:
        """True if the client accepts the chunked transfer coding (HTTP/1.1)."""
        ...

    def send_error(self, error: PenstockError) -> None:
        """Send an error response in the caller's dialect; only before the response has started."""
        ...

    def send_response(self, status: int, content_type: bytes, headers: bytes, body: bytes) -> None:
        """Write a complete response."""
        ...

    def start_response(self, content_type: bytes, headers: bytes, first: bytes, length: int | None = None) -> None:
        """Start a response of unknown length (or of `length` bytes) with its first piece."""
        ...

    def start_raw_response(self, content_type: bytes, headers: bytes, first: bytes) -> None:
        """Start a chunked response whose pieces, the first included, already carry their framing."""
        ...

    def write(self, data: bytes) -> None:
        """Write the next piece."""
        ...

    @property
    def raw_writer(self) -> Callable[[bytes], None]:
        """The function that writes bytes that already carry their framing."""
        ...

    def finish(self, framed: bool = False) -> None:
        """End the response; `framed` when the last raw piece has done so."""
        ...

    def abort(self) -> None:
        """Close the connection in the middle of the response, so that the caller sees that it is incomplete."""
        ...


@contextmanager
def fed_by(client: Client, source: Source) -> Iterator[None]:
    """Attach a source to a client for a block. At its end the client has no source, whatever happened.

    A source that stayed attached would be aborted when the client disconnects, although it may serve another call then.
    """
    client.upstream = source
    try:
        yield
    finally:
        client.upstream = None


class CancellableSource:
    """Source of a client that waits for something other than a response: it can only be cancelled.

    `on_abort` is called with the error when the client disconnects.
    """

    __slots__ = ("_on_abort",)

    def __init__(self, on_abort: Callable[[PenstockError], object]) -> None:
        self._on_abort = on_abort

    def pause(self) -> None:
        """Do nothing: no data flows."""

    def resume(self) -> None:
        """Do nothing: no data flows."""

    def abort(self, error: PenstockError) -> None:
        """Cancel the wait."""
        self._on_abort(error)
