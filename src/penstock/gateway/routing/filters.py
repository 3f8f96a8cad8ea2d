"""Filters: the deployments that are able to serve a call, before any cost is considered."""

from collections.abc import Mapping, Sequence

from penstock.domain.fleet import Deployment, Fleet, Model, ServerStatus
from penstock.domain.request import Call, Operation
from penstock.gateway.routing import unroutable

_UNKNOWN_SIZE = 1 << 60
"""Sorts models of unknown size behind all others."""


class DeploymentFilter:
    """Selects deployments by operation, engine kind and server. `operations` are those of each engine kind."""

    def __init__(self, operations: Mapping[str, frozenset[Operation]]) -> None:
        self._operations = operations

    def keep_able(self, call: Call, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """Keep the deployments whose engine supports the operation and that match the call's `kinds` and `server`.

        A single deployment is kept without a check of its operations, if the call sets neither.
        """
        operation, kinds, server = call.operation, call.kinds, call.server
        if not kinds and not server and len(deployments) == 1:
            return deployments
        return tuple(
            deployment
            for deployment in deployments
            if (not kinds or deployment.server.kind in kinds)
            and (not server or deployment.server.name == server)
            and (operation in self._operations[deployment.server.kind] or operation is Operation.COUNT)
        )

    def list_any(self, fleet: Fleet, call: Call) -> tuple[Deployment, ...]:
        """List every model that is up and supports the operation: loaded ones first, then small ones."""
        capability = "embedding" if call.operation is Operation.EMBEDDING else "completion"
        deployments = {
            (deployment.server.name, deployment.model.name): deployment
            for group in fleet.deployments.values()
            for deployment in group
            if deployment.is_up
            and "agent" not in deployment.model.capabilities
            and (not deployment.model.capabilities or capability in deployment.model.capabilities)
        }
        able = self.keep_able(call, tuple(deployments.values()))
        return tuple(sorted(able, key=lambda d: (not d.model.is_loaded, d.model.size or _UNKNOWN_SIZE, d.model.name)))

    def select_managed(self, fleet: Fleet, call: Call) -> tuple[Deployment, ...]:
        """Select the servers for model management: those that have the model, else any that support the operation.

        Raises NoServer if there is none.
        """
        able = [
            status
            for status in fleet.statuses
            if status.is_up
            and call.operation in self._operations.get(status.server.kind, ())
            and (not call.kinds or status.server.kind in call.kinds)
            and (not call.server or status.server.name == call.server)
        ]
        if not able:
            raise unroutable.build_no_server_error(fleet, call.kinds, call.server)
        if "files" in call.flags:
            able = [select_main_server(able)]
        servers = {deployment.server.name for deployment in fleet.find_deployments(call.model)}
        best = [status for status in able if status.server.name in servers] or able
        model = Model(call.model)
        return tuple(Deployment(s.server, model, s.url or s.server.url, s.slots or 1) for s in best)


def select_main_server(statuses: Sequence[ServerStatus]) -> ServerStatus:
    """Select the server that gets files, and the models made of them: the first with the highest priority."""
    return min(statuses, key=lambda status: status.server.priority)


def select_agents(fleet: Fleet, call: Call, kinds: tuple[str, ...]) -> tuple[Deployment, ...]:
    """Select one deployment per agent server of these kinds: the named model, else a loaded one, else the first.

    They are sorted by the order of `kinds`. Raises NoServer if there is none.
    """
    agents = []
    requested = call.model.lower()
    for status in fleet.statuses:
        if status.server.kind in kinds and status.is_up and status.models:
            model = min(status.models, key=lambda m: (m.name.lower() != requested, not m.is_loaded))
            agents.append(Deployment(status.server, model, status.url or status.server.url, 1))
    if not agents:
        raise unroutable.build_no_server_error(fleet, kinds)
    return tuple(sorted(agents, key=lambda deployment: kinds.index(deployment.server.kind)))
