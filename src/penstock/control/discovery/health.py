"""Turns the result of a probe into a server's status. Pure: the clock is handed in."""

from dataclasses import dataclass, replace

from penstock.domain.errors import PenstockError, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server, ServerStatus, State
from penstock.gateway.fleet.catalog import list_names
from penstock.gateway.fleet.server_load import ServerLoad

MAX_EXCUSED_TIMEOUTS = 3
"""Probes in a row that may time out while calls through this gateway are running on the server."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of one probe of a server: its `inventory`, or the `error` that prevented it.

    `url` is the address that answered, `response_time` the seconds that the first response took.
    """

    inventory: Inventory | None = None
    url: str = ""
    response_time: float = 0.0
    error: Exception | None = None


def evaluate_probe(previous: ServerStatus, result: ProbeResult, now: float) -> ServerStatus:
    """Return the status after a probe. A server that is down or loading keeps the models that it was last seen with."""
    inventory = result.inventory
    if inventory is None:
        return replace(previous, state=State.DOWN, checked_at=now, error=describe_error(result.error), detail="")
    models = inventory.models if inventory.models or inventory.state is State.UP else previous.models
    return ServerStatus(
        server=previous.server,
        state=inventory.state,
        url=result.url,
        models=select_offered_models(previous.server, models),
        response_time=result.response_time,
        checked_at=now,
        version=inventory.version,
        slots=inventory.slots,
        error=inventory.detail if inventory.state is State.DOWN else "",
        detail=inventory.detail,
    )


def is_excusable_timeout(previous: ServerStatus, result: ProbeResult, load: ServerLoad | None, failures: int) -> bool:
    """Return True if a failed probe only shows that the server is busy: it timed out while calls on it succeed."""
    return (
        previous.is_up
        and isinstance(result.error, UpstreamTimeout)
        and load is not None
        and load.running > 0
        and load.consecutive_failures == 0
        and failures < MAX_EXCUSED_TIMEOUTS
    )


def describe_error(error: Exception | None) -> str:
    """Return the reason for a failed probe, for people."""
    if isinstance(error, PenstockError):
        return error.message
    return f"Its response could not be read ({type(error).__name__})."


def select_offered_models(server: Server, models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Return the models that may be used on a server: all of them, or those that its settings list.

    If the server itself lists none, the models of its settings are assumed.
    """
    if not server.models:
        return models
    if not models:
        return tuple(Model(name) for name in server.models)
    allowed = {name for model in server.models for name in list_names(Model(model))}
    return tuple(model for model in models if allowed.intersection(list_names(model)))
