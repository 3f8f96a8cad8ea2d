"""Catalog: publishes fleet snapshots and owns the live state of servers, which outlasts them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from penstock.domain.fleet import Deployment, Fleet, Model, ServerStatus, State
from penstock.domain.model_names import normalize_model_name
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ASSUMED_BILLIONS, ModelThroughput

MAX_THROUGHPUTS = 4096
"""Limit of models per server whose throughput is kept."""


def _assume_billions(_model: Model) -> float:
    return ASSUMED_BILLIONS


class Catalog:
    """Owner of the fleet snapshot and of the live state of each server.

    `publish` replaces `fleet` by one assignment; readers take it once per call. Most probes find no change: then
    `fleet.deployments` stays the same object, and what was computed from it stays valid.

    `on_demand` are the engine kinds that load models when a call needs them and report which are loaded.
    `estimate_billions` returns the parameters of a model in billions, for the first guess of its throughput.
    """

    def __init__(
        self,
        aliases: Mapping[str, tuple[str, ...]] | None = None,
        on_demand: frozenset[str] = frozenset(),
        estimate_billions: Callable[[Model], float] = _assume_billions,
    ) -> None:
        self.fleet = Fleet()
        self.loads: dict[str, ServerLoad] = {}
        self.aliases: Mapping[str, tuple[str, ...]] = aliases or {}
        self._on_demand = on_demand
        self._estimate_billions = estimate_billions
        self._indexed_aliases: Mapping[str, tuple[str, ...]] | None = None
        self._checked_at: dict[str, float] = {}

    def publish(self, statuses: Iterable[ServerStatus]) -> Fleet:
        """Publish a new snapshot. The live state of servers that are gone is dropped once they are idle."""
        statuses = tuple(statuses)
        names = {status.server.name for status in statuses}
        for name in names:
            if name not in self.loads:
                self.loads[name] = ServerLoad()
        for name in [n for n, load in self.loads.items() if n not in names and not load.running]:
            del self.loads[name]
        self._update_residency(statuses)
        old = self.fleet
        if self._indexed_aliases is self.aliases and _are_equivalent(old.statuses, statuses):
            self.fleet = Fleet(statuses, old.deployments, old.version)
            return self.fleet
        self._add_throughputs(statuses)
        self._indexed_aliases = self.aliases
        index = _build_index(statuses, self.aliases, self._on_demand)
        self.fleet = Fleet(statuses, MappingProxyType(index), old.version + 1)
        return self.fleet

    def load_of(self, server: str) -> ServerLoad:
        """Return the live state of a server; a new one if the server was dropped meanwhile."""
        load = self.loads.get(server)
        if load is None:
            load = self.loads[server] = ServerLoad()
        return load

    def _update_residency(self, statuses: tuple[ServerStatus, ...]) -> None:
        """Reconcile the estimated residency with the models that new probes report as loaded."""
        last_checked_at, self._checked_at = self._checked_at, {}
        for status in statuses:
            name, checked_at = status.server.name, status.checked_at
            self._checked_at[name] = checked_at
            is_new = last_checked_at.get(name) != checked_at
            if is_new and status.is_up and status.server.kind in self._on_demand:
                load = self.loads[name]
                loaded = ((model.name, model.size_vram or model.size) for model in status.models if model.is_loaded)
                load.residency.reconcile(loaded, checked_at, load.swap_queue.running)

    def _add_throughputs(self, statuses: tuple[ServerStatus, ...]) -> None:
        """Add a first guess for models whose throughput is not known."""
        for status in statuses:
            load = self.loads[status.server.name]
            for model in status.models:
                if model.name not in load.throughputs and len(load.throughputs) < MAX_THROUGHPUTS:
                    billions = self._estimate_billions(model)
                    load.throughputs[model.name] = ModelThroughput(load.speed_factor, billions, model.size)


def list_names(model: Model) -> tuple[str, ...]:
    """List the lower-case names of a model: its own and its server's aliases, as they are and normalized."""
    names = [name.lower() for name in (model.name, *model.aliases)]
    return tuple(
        dict.fromkeys(names + [other for name in names for other in (_toggle_latest(name), normalize_model_name(name))])
    )


def _toggle_latest(name: str) -> str:
    """Return the other name of a model without a tag: `X` and `X:latest` are one."""
    if name.endswith(":latest"):
        return name.removesuffix(":latest")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _are_equivalent(before: tuple[ServerStatus, ...], now: tuple[ServerStatus, ...]) -> bool:
    """Return whether two snapshots differ in nothing that matters to routing."""
    return len(before) == len(now) and all(map(_is_equivalent, before, now))


def _is_equivalent(before: ServerStatus, now: ServerStatus) -> bool:
    if before is now:
        return True
    return (
        before.server == now.server
        and before.state is now.state
        and before.url == now.url
        and before.slots == now.slots
        and len(before.models) == len(now.models)
        and all(
            old is new or old == (new if old.expires_at == new.expires_at else replace(new, expires_at=old.expires_at))
            for old, new in zip(before.models, now.models, strict=True)
        )
    )


def _build_index(
    statuses: tuple[ServerStatus, ...], aliases: Mapping[str, tuple[str, ...]], on_demand: frozenset[str]
) -> dict[str, tuple[Deployment, ...]]:
    """Index the deployments by every name of every model, servers that are up first.

    All names of an alias group lead to the same deployments. Draining servers are left out: no call may go there, not
    even as a last resort.
    """
    by_name: dict[str, list[Deployment]] = {}
    usable = [status for status in statuses if status.state is not State.DRAINING]
    for status in sorted(usable, key=lambda status: not status.is_up):
        url, slots = status.url or status.server.url, status.slots or status.server.max_concurrent
        is_on_demand = status.server.kind in on_demand
        models: dict[str, Model] = {}
        for model in status.models:
            for name in list_names(model):
                # A model's own name takes precedence over another model's name without its tag.
                if name not in models or name == model.name.lower():
                    models[name] = model
        for name, model in models.items():
            deployment = Deployment(status.server, model, url, slots, status.is_up, is_on_demand)
            by_name.setdefault(name, []).append(deployment)
    index = {name: tuple(deployments) for name, deployments in by_name.items()}
    for alias, others in aliases.items():
        group = [alias.lower(), *(other.lower() for other in others)]
        group = list(dict.fromkeys(group + [normalize_model_name(name) for name in group]))
        members = dict.fromkeys(deployment for name in group for deployment in by_name.get(name, ()))
        if members:
            index |= dict.fromkeys(group, tuple(sorted(members, key=lambda deployment: not deployment.is_up)))
    return index
