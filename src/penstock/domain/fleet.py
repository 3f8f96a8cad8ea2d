"""Servers, the models on them, and the immutable picture of all of them at one moment."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

AGENT_CHAIN = ("victoria", "mlx")  # the kinds that answer agent chat, in the order they are tried


class Priority(enum.IntEnum):
    """Lower comes first; FALLBACK answers only when no other can."""

    PRIMARY = 0
    SECONDARY = 1
    FALLBACK = 2


class State(enum.Enum):
    """What the last look at a server told; DRAINING: it is up, and is given no new work."""

    UNKNOWN = "unknown"
    UP = "up"
    LOADING = "loading"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Server:
    """A model server as configured or discovered. `urls` are addresses of the same server, tried in order.

    `max_concurrent` is its number of slots. `configured` is False for a default address that is only looked at.
    `setting` is where its address is set, to be named when it cannot be reached. `api_key` is the engine's own kind of
    credential, `credentials` are `user:password` for HTTP Basic.
    """

    name: str
    kind: str
    urls: tuple[str, ...]
    priority: Priority = Priority.SECONDARY
    max_concurrent: int = 2
    api_key: str = field(default="", repr=False)
    credentials: str = field(default="", repr=False)
    verify_tls: bool | str = True
    configured: bool = True
    is_simulated: bool = False
    models: tuple[str, ...] = ()
    setting: str = ""

    @property
    def url(self) -> str:
        """The main address."""
        return self.urls[0]


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server describes it. Sizes are bytes, `context_length` tokens; 0 or "" where it is not told.

    `context_length` is what it was trained for, `loaded_context` what it is loaded with.
    """

    name: str
    size: int = 0
    parameters: str = ""
    quantization: str = ""
    family: str = ""
    format: str = ""
    context_length: int = 0
    embedding_length: int = 0
    capabilities: frozenset[str] = frozenset()
    digest: str = ""
    modified_at: str = ""
    loaded: bool = False
    size_vram: int = 0
    expires_at: str = ""
    aliases: tuple[str, ...] = ()
    template: str = ""
    loaded_context: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """What looking at a server found: its models, how it feels, its version and slots where it tells them."""

    models: tuple[Model, ...] = ()
    state: State = State.UP
    version: str = ""
    slots: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server at one moment. `response_time` is seconds; `url` the address that answered; `error` why it is down."""

    server: Server
    state: State = State.UNKNOWN
    url: str = ""
    models: tuple[Model, ...] = ()
    response_time: float = 0.0
    checked_at: float = 0.0
    version: str = ""
    slots: int = 0
    error: str = ""
    detail: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it can be given work."""
        return self.state is State.UP


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on a server. `is_up` is False when the last look found the server away; its models are then remembered.

    `on_demand`: its server loads models when they are asked for, so that it may not be in memory.
    """

    server: Server
    model: Model
    url: str
    slots: int
    is_up: bool = True
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """All servers at one moment. Published by single assignment; never changed.

    `version` grows with every change of what there is. `deployments` maps every name under which a model can be asked
    for (its own, without `:latest`, aliases; lower case) to where it is, servers that are up first.
    """

    statuses: tuple[ServerStatus, ...] = ()
    deployments: Mapping[str, tuple[Deployment, ...]] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0

    @property
    def is_simulated(self) -> bool:
        """Whether these are the built-in simulated servers."""
        return any(status.server.is_simulated for status in self.statuses)
