"""What a client dialect is: how its requests are read, and how answers and errors are drawn in its shape.

All of it is sans-I/O: bytes in, domain objects out, and back. An `Endpoint` is one request-and-answer format (a
*wire*); a `Dialect` is a family of them that share their form of error. Every module of this folder that has a
`DIALECT` is found by itself; adding one is adding a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


class Renderer(Protocol):
    """Draws one translated answer; one is made for every such call.

    A streamed answer is the concatenation of `chunk(…)` for each chunk, then `close()`; or `error(…)` in place of
    `close()` when it breaks. A whole one is `whole(…)`. Provenance is what was known when the answer began.
    """

    @property
    def content_type(self) -> bytes:
        """Of the streamed form when the call streams, else of the whole."""
        ...

    def render_chunk(self, chunk: Chunk) -> bytes:
        """The bytes that this chunk adds, b"" for none; the first call brings the stream's opening events along."""
        ...

    def render_end(self) -> bytes:
        """The closing events of a stream that ended well."""
        ...

    def render_error(self, error: PenstockError) -> bytes:
        """The last event of a stream that broke."""
        ...

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """The whole answer as one body."""
        ...


class Endpoint(Protocol):
    """One wire: a format of requests and answers, and the paths where callers send it."""

    @property
    def wire(self) -> str:
        """Its name, e.g. `openai.chat`; engines that speak the same wire get bodies as they came."""
        ...

    @property
    def method(self) -> str:
        """POST, mostly."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """The exact paths that it answers on."""
        ...

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Read as much as routing needs, in a few microseconds; raises InvalidRequest. Must not keep slices alive."""
        ...

    def decode_content(self, call: Call) -> Content:
        """Read all of it, for an engine that speaks something else; raises InvalidRequest naming the field."""
        ...

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """What will draw the answer to this call when it is translated."""
        ...

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """What an answer in this wire says it has cost.

        `tail` is the last pieces of a stream, or all of an unstreamed answer; then it raises msgspec.DecodeError when
        that is not JSON.
        """
        ...

    def is_complete(self, tail: bytes) -> bool:
        """Whether a stream in this wire that ends with `tail` had come to its proper end."""
        ...

    def render_interruption(self, error: PenstockError) -> bytes:
        """What ends a stream in this wire that passed through and broke; begins on a fresh line."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """A family of endpoints. `failure(error, request_id)` draws the body of an error response (JSON).

    `prefixes` are the paths whose unknown members answer errors in this dialect; the longest match wins.
    `media_type` is the Content-Type of errors.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    render_error: Callable[[PenstockError, str], bytes]
    prefixes: tuple[str, ...] = ()
    media_type: bytes = b"application/json"
