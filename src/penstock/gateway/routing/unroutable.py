"""The error for a call that nobody can take, with what the caller can do about it."""

import difflib

from penstock.domain.errors import ModelNotFound, NoServer, PenstockError, Unsupported
from penstock.domain.fleet import Deployment, Fleet, State
from penstock.domain.request import Call
from penstock.gateway.fleet.catalog import list_names

MAX_SUGGESTIONS = 5


def find_deployments(fleet: Fleet, model: str) -> tuple[Deployment, ...]:
    """Where a model is that is asked for by this name, with or without a `:latest` that it may not have."""
    name = model.lower()
    return fleet.deployments.get(name) or fleet.deployments.get(name.removesuffix(":latest"), ())


def build_error(fleet: Fleet, call: Call, mismatch: str = "") -> PenstockError:
    """Why no deployment is left: the kind of work, no server that is up, or a name that nobody has."""
    name = call.model.lower()
    others = find_deployments(fleet, call.model)
    if others and not call.server and not call.kinds:
        kinds = ", ".join(sorted({deployment.server.kind for deployment in others}))
        return Unsupported(f"{call.model} runs on {kinds}, which cannot do {call.operation.value}", param="model")
    drained = [
        status.server.name
        for status in fleet.statuses
        if status.state is State.DRAINING and any(name in list_names(model) for model in status.models)
    ]
    if drained:
        return NoServer(
            f"{call.model} is only on {', '.join(drained)}, which gets no new calls for now (draining)", retry_after=30
        )
    if not any(status.is_up for status in fleet.statuses):
        return build_no_server_error(fleet, call.kinds, call.server)
    known = sorted({d.model.name for group in fleet.deployments.values() for d in group if d.is_up})
    close = difflib.get_close_matches(name, [k.lower() for k in known], MAX_SUGGESTIONS, 0.5)
    near = [k for k in known if k.lower() in close or (name and (name in k.lower() or k.lower() in name))][
        :MAX_SUGGESTIONS
    ]
    shown = (
        f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known[:MAX_SUGGESTIONS]) or 'none'}"
    )
    more = f" {mismatch}" if mismatch else ""
    where = f" on server {call.server}" if call.server else ""
    return ModelNotFound(
        f"model {call.model!r} not found{where}; {shown} (GET /v1/models lists all).{more}", param="model"
    )


def build_no_server_error(fleet: Fleet, kinds: tuple[str, ...] = (), server: str = "") -> NoServer:
    """Each server that might have answered, and why it cannot."""
    if server and not any(status.server.name == server for status in fleet.statuses):
        names = ", ".join(status.server.name for status in fleet.statuses) or "none"
        return NoServer(f"there is no server called {server!r}; there are {names} (GET /api/models/servers)")
    told = [
        f"{status.server.name} ({status.server.kind}, {status.url or status.server.url}): "
        f"{status.error or status.detail or ('has no models' if status.is_up else 'not looked at yet')}"
        f"{f' (look at {status.server.setting})' if status.server.setting and not status.is_up else ''}"
        for status in fleet.statuses
        if not kinds or status.server.kind in kinds
    ]
    wanted = " or ".join(kinds) if kinds else "model"
    if not told:
        return NoServer(f"no {wanted} server is known: start one, or name its address in the settings", retry_after=5)
    return NoServer(f"no {wanted} server can answer just now: {'; '.join(told)}", retry_after=5)
