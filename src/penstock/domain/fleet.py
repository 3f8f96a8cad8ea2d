"""Model servers, their models, and immutable snapshots of all of them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.domain.model_names import normalize_model_name

AGENT_CHAIN = ("victoria", "mlx")  # kinds of engine for agent chat, in the order of attempts


class Priority(enum.IntEnum):
    """Priority of a server: lower comes first; FALLBACK is used only if no other server can answer."""

    PRIMARY = 0
    SECONDARY = 1
    FALLBACK = 2


class State(enum.Enum):
    """State of a server at its last probe. DRAINING: it is up and gets no new calls."""

    UNKNOWN = "unknown"
    UP = "up"
    LOADING = "loading"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Server:
    """A configured or discovered model server. `urls` are addresses of the same server, tried in order.

    `max_concurrent` is its number of slots. `is_configured` is False for a default address that is only probed.
    `setting` is the setting of its address, for error messages. `api_key` is the engine's own kind of credential,
    `credentials` are `user:password` for HTTP Basic.
    """

    name: str
    kind: str
    urls: tuple[str, ...]
    priority: Priority = Priority.SECONDARY
    max_concurrent: int = 2
    api_key: str = field(default="", repr=False)
    credentials: str = field(default="", repr=False)
    verify_tls: bool | str = True
    is_configured: bool = True
    is_simulated: bool = False
    models: tuple[str, ...] = ()
    setting: str = ""

    @property
    def url(self) -> str:
        """Return the main address."""
        return self.urls[0]


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server describes it. Sizes are bytes, `context_length` tokens; unknown values are 0 or "".

    `context_length` is the length for which the model was trained, `loaded_context` the length with which it runs,
    `loaded_size` the memory that it takes, of which `size_vram` is on GPUs.
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
    is_loaded: bool = False
    size_vram: int = 0
    expires_at: str = ""
    aliases: tuple[str, ...] = ()
    template: str = ""
    loaded_context: int = 0
    loaded_size: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """Result of a probe: the server's models and state, and its version and slots if it reports them."""

    models: tuple[Model, ...] = ()
    state: State = State.UP
    version: str = ""
    slots: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Status of one server. `response_time` is seconds; `url` the address that answered; `error` why it is down."""

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
        """Return whether the server can take calls."""
        return self.state is State.UP


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on a server. `is_up` is False after a failed probe; the last known models are kept.

    `on_demand`: the server loads models on request, so the model may not be in memory.
    """

    server: Server
    model: Model
    url: str
    slots: int
    is_up: bool = True
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """Snapshot of all servers. Published by a single assignment, never changed.

    `version` increases with every change of servers or models. `deployments` maps every name of a model (its own,
    without `:latest`, aliases; lower case) to its deployments, those on servers that are up first.
    """

    statuses: tuple[ServerStatus, ...] = ()
    deployments: Mapping[str, tuple[Deployment, ...]] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0

    @property
    def is_simulated(self) -> bool:
        """Return whether these are the built-in simulated servers."""
        return any(status.server.is_simulated for status in self.statuses)

    def find_deployments(self, model: str) -> tuple[Deployment, ...]:
        """Return the deployments of a model by any of its names, full ones like `library/m:latest` included."""
        return self.deployments.get(model.lower()) or self.deployments.get(normalize_model_name(model), ())
