"""Fleets to decide about, from few words and from hypothesis."""

from hypothesis import strategies as st

from penstock import engines
from penstock.domain.fleet import Fleet, Model, Priority, Server, ServerStatus, State
from penstock.domain.request import Call, Operation
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.routing import costs
from penstock.gateway.routing.policy import Policy
from penstock.gateway.routing.router import Router

OPERATIONS = {kind: engine.operations for kind, engine in engines.load().items()}
COSTS = costs.load_costs()


def status(
    name: str,
    *models: str | Model,
    kind: str = "ollama",
    up: bool = True,
    priority: Priority = Priority.PRIMARY,
    slots: int = 2,
    error: str = "",
) -> ServerStatus:
    """A server at one moment."""
    server = Server(name, kind, (f"http://{name}:1",), priority, slots)
    found = tuple(Model(model) if isinstance(model, str) else model for model in models)
    return ServerStatus(server, State.UP if up else State.DOWN, server.url, found, error=error)


def fleet(*statuses: ServerStatus, aliases: dict[str, tuple[str, ...]] | None = None) -> Fleet:
    return Catalog(aliases).publish(statuses)


def router(**policy: str) -> Router:
    return Router(Policy(**policy), COSTS, OPERATIONS)  # type: ignore[arg-type]


def call(model: str = "", operation: Operation = Operation.CHAT, **more: object) -> Call:
    return Call("openai.chat", operation, model, False, b"{}", **more)  # type: ignore[arg-type]


NOW = 1000.0
quiet: dict[str, ServerLoad] = {}
"""Nothing runs, nothing has failed."""


def live(running: int = 0, failed_at: float = 0.0, **more: object) -> ServerLoad:
    return ServerLoad(running, int(failed_at > 0), failed_at, **more)  # type: ignore[arg-type]


def servers_of(decision) -> list[str]:
    return [candidate.deployment.server.name for candidate in decision.candidates]


NAMES = st.sampled_from(["m", "m:latest", "M", "llama3.1:8b", "llama3.1:latest", "qwen", "Qwen:Latest", "a/b"])
STATUSES = st.lists(
    st.builds(
        lambda name, models, **fields: status(name, *models, **fields),
        st.sampled_from("abcdefgh"),
        st.lists(NAMES, max_size=4, unique=True),
        kind=st.sampled_from(["ollama", "vllm", "llamacpp", "openai"]),
        up=st.booleans(),
        priority=st.sampled_from(list(Priority)),
        slots=st.integers(1, 16),
    ),
    max_size=6,
    unique_by=lambda status: status.server.name,
)
LIVES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(live, st.integers(0, 40), st.sampled_from([0.0, 1.0, 985.0, 995.0, 999.9])),
)
