"""Errors for calls that no server can take, with advice for the caller."""

import difflib
import itertools

from penstock.domain.errors import InvalidRequest, ModelNotFound, NoServer, NotFound, PenstockError, Unsupported
from penstock.domain.fleet import Fleet, ServerStatus, State
from penstock.domain.model_names import normalize_model_name
from penstock.domain.request import Call
from penstock.gateway.fleet.catalog import list_names

MAX_SUGGESTIONS = 5
MAX_NAME_LENGTH = 1000
"""Characters of a model's name."""
MAX_COMPARED_NAMES = 2000
"""Names that are compared for suggestions: comparing takes 20 µs each."""


def build_error(fleet: Fleet, call: Call, mismatch: str = "") -> PenstockError:
    """Build the error for a call that no deployment can take.

    It names the cause: the operation is not supported, no server is up, or the model is unknown. `mismatch` is added
    to the last.
    """
    if len(call.model) > MAX_NAME_LENGTH:
        return InvalidRequest(
            f"`model` has {len(call.model)} characters. Names have at most {MAX_NAME_LENGTH}.", param="model"
        )
    deployments = fleet.find_deployments(call.model)
    if deployments and not call.server and not call.kinds:
        kinds = ", ".join(sorted({deployment.server.kind for deployment in deployments}))
        return Unsupported(
            f"{call.model} runs on {kinds}, which does not support {call.operation.value}. Name another model.",
            param="model",
        )
    name = call.model.lower()
    names = {name, normalize_model_name(name)}
    draining = [
        status.server.name
        for status in fleet.statuses
        if status.state is State.DRAINING and any(names.intersection(list_names(model)) for model in status.models)
    ]
    if draining:
        return NoServer(
            f"{call.model} is only on {', '.join(draining)}, which gets no new calls (draining). Try again later.",
            retry_after=30,
        )
    if not any(status.is_up for status in fleet.statuses):
        return build_no_server_error(fleet, call.kinds, call.server)
    server = f" on server {call.server}" if call.server else ""
    hint = f" {mismatch}" if mismatch else ""
    return ModelNotFound(
        f"Model {call.model!r} was not found{server}. {_suggest_models(fleet, name)} GET /v1/models lists all.{hint}",
        param="model",
    )


def build_no_server_error(fleet: Fleet, kinds: tuple[str, ...] = (), server: str = "") -> PenstockError:
    """Build the error for a call that has no server; it names each server that was considered, with its state."""
    if server and not any(status.server.name == server for status in fleet.statuses):
        names = ", ".join(status.server.name for status in fleet.statuses) or "none"
        return NotFound(
            f"There is no server {server[:100]!r}. Servers: {names} (GET /api/models/servers).", param="server"
        )
    states = [_describe_state(status) for status in fleet.statuses if not kinds or status.server.kind in kinds]
    kind = " or ".join(kinds) if kinds else "model"
    if not states:
        return NoServer(f"No {kind} server is known. Start one, or set its address in the settings.", retry_after=5)
    return NoServer(f"No {kind} server can answer now: {'; '.join(states)}.", retry_after=5)


def _suggest_models(fleet: Fleet, name: str) -> str:
    up = {d.model.name for group in fleet.deployments.values() for d in group if d.is_up}
    if len(up) > MAX_COMPARED_NAMES:
        up = set(itertools.islice((model for model in up if model[:2].lower() == name[:2]), MAX_COMPARED_NAMES)) or set(
            itertools.islice(up, MAX_SUGGESTIONS)
        )
    models = sorted(up)
    close = difflib.get_close_matches(name, [model.lower() for model in models], MAX_SUGGESTIONS, 0.5)
    similar = [
        model
        for model in models
        if model.lower() in close or (name and (name in model.lower() or model.lower() in name))
    ]
    if similar:
        return f"Similar models: {', '.join(similar[:MAX_SUGGESTIONS])}."
    return f"Models here: {', '.join(models[:MAX_SUGGESTIONS]) or 'none'}."


def _describe_state(status: ServerStatus) -> str:
    """Describe why a server cannot take a call, and name the setting of its address if it is down."""
    server = status.server
    reason = status.error or status.detail or ("it has no models" if status.is_up else "not probed yet")
    setting = f" (check {server.setting})" if server.setting and not status.is_up else ""
    return f"{server.name} ({server.kind}, {status.url or server.url}): {reason.rstrip('.')}{setting}"
