"""Protocols of client dialects: parsing requests, and rendering responses and errors in the client's format.

Everything here is sans-I/O: bytes in, domain objects out, and back. An `Endpoint` is one request and response format
(a *wire*); a `Dialect` is a family of endpoints with the same error format. Every module or package of this folder
with a `DIALECT` or `DIALECTS` is found by `penstock.dialects.load`, so a new dialect is one new module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from penstock.domain.content import Content
from penstock.domain.errors import PenstockError, UpstreamStatus
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Chunk, ModelResponse, Usage

EVENT_STREAM = b"text/event-stream; charset=utf-8"
JSON = b"application/json"
NO_FLAGS: frozenset[str] = frozenset()


class Renderer(Protocol):
    """Renderer of one translated response; created for each call that needs translation.

    A streamed response is `render_chunk` of every chunk followed by `render_end`, or by `render_error` when the stream
    is interrupted. Any other response is `render_response`.
    """

    @property
    def content_type(self) -> bytes:
        """Return the Content-Type of the streamed form if the call streams, else of the single body."""
        ...

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Render the events of a chunk, b"" if there are none. The first call includes the opening events."""
        ...

    def render_end(self) -> bytes:
        """Render the closing events of a complete stream."""
        ...

    def render_error(self, error: PenstockError) -> bytes:
        """Render the last event of an interrupted stream."""
        ...

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the complete response as one body."""
        ...


class UnstreamedRenderer:
    """Base of renderers whose response is one body: chunks and the end render nothing."""

    content_type: bytes = JSON

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Return nothing: this response is never streamed."""
        return b""

    def render_end(self) -> bytes:
        """Return nothing: this response is never streamed."""
        return b""


class Endpoint(Protocol):
    """One wire: a format of requests and responses, and the paths where clients send it."""

    @property
    def wire(self) -> str:
        """Return the wire's name, e.g. `openai.chat`. Engines that speak the same wire get bodies unchanged."""
        ...

    @property
    def method(self) -> str:
        """Return the HTTP method, mostly POST."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the exact paths of the endpoint."""
        ...

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the fields that routing needs, in a few microseconds. Raises InvalidRequest. Keeps no slices alive."""
        ...

    def decode_content(self, call: Call) -> Content:
        """Decode the complete body for an engine with another wire. Raises InvalidRequest that names the field."""
        ...

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create the renderer of the call's translated response. `provenance` is what is known when it starts."""
        ...

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the token counts of a response in this wire.

        `tail` is the end of a stream, or the complete body of an unstreamed response. Raises msgspec.DecodeError if
        such a body is not JSON.
        """
        ...

    def is_complete(self, tail: bytes) -> bool:
        """Return whether a stream in this wire that ends with `tail` is complete."""
        ...

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render the end of a passed-through stream that was interrupted. Starts on a new line."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """A family of endpoints. `render_error(error, request_id)` renders the body of an error response.

    `prefixes` are path prefixes whose unknown paths get errors in this dialect; the longest match wins. `media_type`
    is the Content-Type of errors. `keeps_engine_status`: clients expect the status that the model server gave, even for
    a request that it refused with a 500.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    render_error: Callable[[PenstockError, str], bytes]
    prefixes: tuple[str, ...] = ()
    media_type: bytes = JSON
    keeps_engine_status: bool = False

    def find_status(self, error: PenstockError) -> int:
        """Return the HTTP status of an error response."""
        if self.keeps_engine_status and isinstance(error, UpstreamStatus):
            return error.engine_status
        return error.status
