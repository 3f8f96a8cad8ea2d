"""What the gateway knows of the one who waits for an answer; the serving layer implements it over a socket."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from penstock.domain.errors import PenstockError


class Wishes(NamedTuple):
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
    """The caller's side of one call. Nothing here waits: when the caller is slow, `source` is paused.

    An answer is either `whole`, or `begin`, any number of `write`, then `end`. `head` is ready header lines, each with
    its CRLF.
    """

    source: Source | None
    """The engine's connection that feeds this client: paused when the client is slow, aborted when it is gone."""

    keep_alive: bool
    """Whether its connection goes on after this answer."""

    wishes: Wishes | None
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
    def begun(self) -> bool:
        """Whether a byte of the answer has been written."""
        ...

    @property
    def first_at(self) -> float:
        """When the answer began (loop time); 0 before."""
        ...

    @property
    def unread(self) -> int:
        """Bytes of its answer that it has not taken yet."""
        ...

    @property
    def chunked(self) -> bool:
        """Whether it takes the chunked transfer coding (HTTP/1.1)."""
        ...

    def fail(self, error: PenstockError) -> None:
        """Answer with an error in the caller's dialect; only before the answer has begun."""
        ...

    def whole(self, status: int, content_type: bytes, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        ...

    def begin(self, content_type: bytes, head: bytes, first: bytes, length: int | None = None) -> None:
        """Begin an answer of unknown length (or of `length` bytes) with its first piece."""
        ...

    def begin_raw(self, content_type: bytes, head: bytes, first: bytes) -> None:
        """Begin a chunked answer whose pieces, the first included, already carry their framing."""
        ...

    def write(self, data: bytes) -> None:
        """Write a further piece."""
        ...

    @property
    def write_raw(self) -> Callable[[bytes], None]:
        """What writes bytes that already carry their framing."""
        ...

    def end(self, framed: bool = False) -> None:
        """End the answer; `framed` when the last raw piece has done so."""
        ...

    def cut(self) -> None:
        """Close the connection in the middle of the answer, so that the caller sees that it is not whole."""
        ...
