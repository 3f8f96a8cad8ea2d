"""Interface of an engine: how the gateway talks to one kind of model server.

Engines are sans-I/O: they build requests, parse responses and inspect servers, but never open a connection. A new kind
of server is one new module in this package with an `ENGINE`; `penstock.engines.load` finds it.
"""

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Inventory, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk
from penstock.domain.server_kind import KindDefaults

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class EngineRequest:
    """Request to a model server; `path` is relative to the server's base URL.

    `stream`: the response is a stream. `fallback` is sent instead when the server answers 404, because older versions
    lack the path. `may_be_polled`: the response may be a task to poll; the engine then creates a `PollingReader`.
    `ignored` names the fields of the call that the server cannot honour and that are left out.

    Not frozen, because one is made for every call and freezing doubles the cost; treat it as immutable.
    """

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Headers = ()
    stream: bool = False
    content_type: bytes = b"application/json"
    fallback: "EngineRequest | None" = None
    may_be_polled: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """Small request outside of inference, e.g. for a model list.

    A connection failure of an `optional` one becomes a `FetchResponse` with status 0.
    """

    path: str
    method: str = "GET"
    body: bytes = b""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """Response to a `FetchRequest`: its complete body and its status, 0 when no response came."""

    status: int
    body: bytes = b""


FetchFunction: TypeAlias = Callable[[Server, str, FetchRequest, float], Awaitable[FetchResponse]]
"""Sends a request to one URL of a server; the last argument is the timeout in seconds."""


class ResponseReader(Protocol):
    """Parser of one response, however its bytes are split."""

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks that `data` completes. Raises UpstreamGarbage, or the error that the stream reports."""
        ...

    def close(self, is_delimited: bool = False) -> Iterable[Chunk]:
        """Return the remaining chunks at the end of the body. Raises UpstreamCut when the response is incomplete.

        `is_delimited`: a length or a last chunk marked the end, so that the connection has not cut it.
        """
        ...


@dataclass(frozen=True, slots=True)
class NextPoll:
    """Path to GET after `delay` seconds for a response that is not complete yet."""

    path: str
    delay: float


class PollingReader(ResponseReader, Protocol):
    """Parser of a response that may have to be polled for."""

    @property
    def next_poll(self) -> NextPoll | None:
        """The next poll, None when the response is complete.

        Valid once the result of `close` or `read_poll` has been consumed.
        """
        ...

    def read_poll(self, fetched: FetchResponse) -> Iterable[Chunk]:
        """Return the chunks in the response to a poll. Raises what `feed` and `close` raise."""
        ...


class Engine(Protocol):
    """A kind of model server."""

    @property
    def kind(self) -> str:
        """Its name in settings, e.g. `ollama`."""
        ...

    @property
    def title(self) -> str:
        """Its name in messages to people, e.g. `Ollama`."""
        ...

    @property
    def defaults(self) -> KindDefaults:
        """Settings of such a server where the user gives none."""
        ...

    @property
    def native_paths(self) -> Mapping[str, str]:
        """Path of each wire format that the server speaks itself, by the name of the wire (`Call.wire`)."""
        ...

    @property
    def operations(self) -> frozenset[Operation]:
        """Operations that the server supports."""
        ...

    @property
    def loads_on_demand(self) -> bool:
        """True: the server loads models on request and reports which are loaded. False: all listed ones are ready."""
        ...

    @property
    def may_stop_early(self) -> bool:
        """True: the server ends some complete responses without the wire's own end."""
        ...

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Build the request for a call in a native wire: its body unchanged except for a differing model name."""
        ...

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build the request for a call in another wire. Raises Unsupported for what the server cannot do."""
        ...

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Build the request for the rest of a response that began with `sent_text`, or return None where impossible.

        `sent_text` is not empty. Only for content that `domain.resumption` allows; the caller reduces token limits.
        """
        ...

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Create the parser of the response to `outgoing`."""
        ...

    def create_wire_reader(self, call: Call) -> ResponseReader | None:
        """Create the parser of a passed-through response, None for a wire that the engine only forwards."""
        ...

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """Return the error that an error response means."""
        ...

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Probe a server: yield requests, receive their responses, return the inventory.

        `known_models` come from the previous probe and save requests. Raises UpstreamError when the server is not of
        this kind. The caller throws connection failures into the generator, which lets them pass.
        """
        ...

    def authorization_headers(self, api_key: str) -> Headers:
        """Return the headers that authenticate the gateway to the server; `api_key` may be empty."""
        ...


def bearer_headers(api_key: str) -> Headers:
    """Return a bearer token header, none without a key."""
    return ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()
