"""What a kind of engine is: how to ask it, how to read what it says, how to look at it.

All of it is sans-I/O. Every module of this folder that has an `ENGINE` is found by itself; adding a kind is adding a
file.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk


@dataclass(slots=True)
class Outgoing:
    """A request to an engine. `path` is below the server's base URL; `streamed` says how the answer will come.

    Not frozen: one is made for every call; nobody changes it.

    `otherwise` is what to send in its place when the engine answers 404: older versions lack the path. `polled` tells
    that the answer may come later, and that what reads it is a `PollingReader`.
    """

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    streamed: bool = False
    content_type: bytes = b"application/json"
    otherwise: "Outgoing | None" = None
    polled: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Something to be fetched while looking at a server; a failed optional one comes back as status 0."""

    path: str
    method: str = "GET"
    body: bytes = b""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: status (0: nothing did) and the whole body."""

    status: int
    body: bytes = b""


class Reader(Protocol):
    """Reads one answer, however its bytes are split."""

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """The chunks that these bytes complete. Raises UpstreamGarbage, or the error that the stream tells of."""
        ...

    def close(self) -> Iterable[Chunk]:
        """The body has ended: what was still held back. Raises UpstreamCut when the answer was not whole."""
        ...


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that is not there yet: what to GET for it, `after` seconds from now."""

    path: str
    after: float


class PollingReader(Reader, Protocol):
    """Reads an answer that may come later."""

    @property
    def later(self) -> Later | None:
        """Once `close` or `poll` has been read to its end: where to ask next; None when the answer is whole."""
        ...

    def poll(self, fetched: Fetched) -> Iterable[Chunk]:
        """The chunks that a look at `later` brings. Raises what `feed` and `close` do."""
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
    def native(self) -> Mapping[str, str]:
        """The wires that it speaks itself, and the path of each."""
        ...

    @property
    def operations(self) -> frozenset[Operation]:
        """What it can do at all."""
        ...

    @property
    def on_demand(self) -> bool:
        """Whether it loads models when they are asked for and tells which are loaded; else all it lists are ready."""
        ...

    def forward(self, call: Call, model: Model) -> Outgoing:
        """The request for a call whose wire is native: the body as it came, but for the model's name if it differs."""
        ...

    def translate(self, call: Call, content: Content, model: Model) -> Outgoing:
        """The request for a call in another wire. Raises Unsupported for what this engine cannot do."""
        ...

    def resume(self, call: Call, content: Content, model: Model, said: str) -> Outgoing | None:
        """The request for the rest of an answer that began with `said` (not empty), or None where there is none.

        Only for contents that are `domain.resuming.resumable`; limits of tokens are the caller's to reduce.
        """
        ...

    def reader(self, call: Call, content: Content, outgoing: Outgoing) -> Reader:
        """What will read the answer to `outgoing`."""
        ...

    def failure(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """The error that an error response tells of."""
        ...

    def inspect(self, known: tuple[Model, ...]) -> Generator[Fetch, Fetched, Inventory]:
        """Look at the server: yields what to fetch, is sent what came, returns what it found.

        `known` are the models of the last look, for what need not be asked again. Raises UpstreamError when what
        answers is not this kind of engine. A connection failure is thrown in by the driver and passes through.
        """
        ...

    def headers(self, api_key: str) -> tuple[tuple[bytes, bytes], ...]:
        """What every request to such a server carries, its credentials above all."""
        ...
