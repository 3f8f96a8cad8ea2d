"""What the gateway knows of the one who waits for an answer; the serving layer implements it over a socket."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from penstock.domain.errors import PenstockError


class RoutingHints(NamedTuple):
    """What a request's headers ask of routing: `max_wait` in seconds, and the session that it belongs to."""

    max_wait: float | None = None
    session: bytes = b""


class Source(Protocol):
    """Where a client's answer comes from."""

    def pause(self) -> None:
        """Give no more until `resume`: the client is slower."""
        ...

    def resume(self) -> None:
        """Give again."""
        ...

    def abort(self, error: PenstockError) -> None:
        """Stop: nobody wants the rest. Who waits for it is told `error`."""
        ...


class Client(Protocol):
    """The caller's side of one call. Nothing here waits: when the caller is slow, `upstream` is paused.

    A response is either one `send_response`, or `start_response`, any number of `write`, then `finish`. `head` is
    ready header lines, each with its CRLF.
    """

    upstream: Source | None
    """The engine's connection that feeds this client: paused when the client is slow, aborted when it is gone."""

    keep_alive: bool
    """Whether its connection goes on after this answer."""

    routing_hints: RoutingHints | None
    """What its headers ask of routing."""

    @property
    def id(self) -> bytes:
        """The request's id: the caller's own, or made for it."""
        ...

    @property
    def request_id(self) -> str:
        """The same as text."""
        ...

    @property
    def gone(self) -> bool:
        """Whether it has hung up."""
        ...

    @property
    def response_started(self) -> bool:
        """Whether a byte of the answer has been written."""
        ...

    @property
    def first_at(self) -> float:
        """When the answer began (loop time); 0 before."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """Bytes of its answer that it has not taken yet."""
        ...

    @property
    def chunked(self) -> bool:
        """Whether it takes the chunked transfer coding (HTTP/1.1)."""
        ...

    def fail(self, error: PenstockError) -> None:
        """Answer with an error in the caller's dialect; only before the answer has begun."""
        ...

    def send_response(self, status: int, content_type: bytes, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        ...

    def start_response(self, content_type: bytes, head: bytes, first: bytes, length: int | None = None) -> None:
        """Begin an answer of unknown length (or of `length` bytes) with its first piece."""
        ...

    def start_raw_response(self, content_type: bytes, head: bytes, first: bytes) -> None:
        """Begin a chunked answer whose pieces, the first included, already carry their framing."""
        ...

    def write(self, data: bytes) -> None:
        """Write a further piece."""
        ...

    @property
    def write_raw(self) -> Callable[[bytes], None]:
        """What writes bytes that already carry their framing."""
        ...

    def finish(self, framed: bool = False) -> None:
        """End the answer; `framed` when the last raw piece has done so."""
        ...

    def abort(self) -> None:
        """Close the connection in the middle of the answer, so that the caller sees that it is not whole."""
        ...
