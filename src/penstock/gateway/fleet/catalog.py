"""The fleet as the gateway sees it: an immutable snapshot, and beside it live counters that outlast snapshots."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from penstock.domain.fleet import Deployment, Fleet, Model, ServerStatus, State
from penstock.gateway.fleet.residency import Residency
from penstock.gateway.fleet.swap_queue import SwapQueue
from penstock.gateway.fleet.throughput import ModelThroughput, SpeedFactor


@dataclass(slots=True, eq=False)
class ServerLoad:
    """Live state of one server: its calls, failures, throughput, residency and swap queue. Probes do not change it.

    `running` is the number of calls sent and not yet ended. `last_failed_at` is the monotonic time in seconds of the
    last failed call, 0.0 for none. `last_call_number` is the number of the last call sent to this server, counted over
    all servers. `throughputs` are by model name. `traffic_share(model, now)`, where set, returns the share of its usual
    traffic that the model should get, from 0 to 1.
    """

    running: int = 0
    consecutive_failures: int = 0
    last_failed_at: float = 0.0
    last_call_number: int = 0
    throughputs: dict[str, ModelThroughput] = field(default_factory=dict)
    speed_factor: SpeedFactor = field(default_factory=SpeedFactor)
    traffic_share: Callable[[str, float], float] | None = None
    residency: Residency = field(default_factory=Residency)
    swap_queue: SwapQueue = field(init=False)

    def __post_init__(self) -> None:
        self.swap_queue = SwapQueue(self.residency)


class Catalog:
    """Owner of the snapshot. `fleet` is replaced whole by `publish`; readers take it once and keep it for a call. Most
    looks find nothing new: then its `deployments` stay the same object, and what was worked out of them holds.

    `on_demand` are the kinds of servers that load models when they are asked for, and tell which are loaded.
    """

    def __init__(
        self, aliases: Mapping[str, tuple[str, ...]] | None = None, on_demand: frozenset[str] = frozenset()
    ) -> None:
        self.fleet = Fleet()
        self.loads: dict[str, ServerLoad] = {}
        self.aliases: Mapping[str, tuple[str, ...]] = aliases or {}
        self._on_demand = on_demand
        self._indexed_aliases: Mapping[str, tuple[str, ...]] | None = None
        self._checked_at: dict[str, float] = {}

    def publish(self, statuses: Iterable[ServerStatus]) -> Fleet:
        """Make this the fleet. Live counters of servers that stay are kept; of others dropped when they are idle."""
        statuses = tuple(statuses)
        names = {status.server.name for status in statuses}
        for name in names:
            if name not in self.loads:
                self.loads[name] = ServerLoad()
        for name in [n for n, live in self.loads.items() if n not in names and not live.running]:
            del self.loads[name]
        self._update_residency(statuses)
        old = self.fleet
        if self._indexed_aliases is self.aliases and _are_equivalent(old.statuses, statuses):
            self.fleet = Fleet(statuses, old.deployments, old.version)
            return self.fleet
        self._indexed_aliases = self.aliases
        index = _build_index(statuses, self.aliases, self._on_demand)
        self.fleet = Fleet(statuses, MappingProxyType(index), old.version + 1)
        return self.fleet

    def _update_residency(self, statuses: tuple[ServerStatus, ...]) -> None:
        """What new looks tell of the models in memory."""
        seen, self._checked_at = self._checked_at, {}
        for status in statuses:
            name, at = status.server.name, status.checked_at
            self._checked_at[name] = at
            if status.is_up and status.server.kind in self._on_demand and seen.get(name) != at:
                held = ((model.name, model.size_vram or model.size) for model in status.models if model.is_loaded)
                self.loads[name].residency.reconcile(held, at, self.loads[name].swap_queue.running)

    def load_of(self, server: str) -> ServerLoad:
        """The counters of a server, made anew for one that has been dropped meanwhile."""
        live = self.loads.get(server)
        if live is None:
            live = self.loads[server] = ServerLoad()
        return live


def _are_equivalent(before: tuple[ServerStatus, ...], now: tuple[ServerStatus, ...]) -> bool:
    """Whether two pictures differ in nothing that routing turns on."""
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


def list_names(model: Model) -> tuple[str, ...]:
    """The lower-case names under which a model is found: its own, without `:latest`, and its server's aliases."""
    names = [name.lower() for name in (model.name, *model.aliases)]
    return tuple(dict.fromkeys(names + [name.removesuffix(":latest") for name in names]))


def _build_index(
    statuses: tuple[ServerStatus, ...], aliases: Mapping[str, tuple[str, ...]], on_demand: frozenset[str]
) -> dict[str, tuple[Deployment, ...]]:
    """Every name of every model, servers that are up first. An alias links all the names of its group both ways.

    A server that is being drained is left out: no call may go there, not even as the last resort.
    """
    found: dict[str, list[Deployment]] = {}
    usable = [status for status in statuses if status.state is not State.DRAINING]
    for status in sorted(usable, key=lambda status: not status.is_up):
        slots = status.slots or status.server.max_concurrent
        lazy = status.server.kind in on_demand
        here: dict[str, Model] = {}
        for model in status.models:
            for name in list_names(model):
                # a model's own name counts more than another's name without its tag
                if name not in here or name == model.name.lower():
                    here[name] = model
        for name, model in here.items():
            deployment = Deployment(status.server, model, status.url or status.server.url, slots, status.is_up, lazy)
            found.setdefault(name, []).append(deployment)
    index = {name: tuple(deployments) for name, deployments in found.items()}
    for alias, others in aliases.items():
        group = [alias.lower(), *(other.lower() for other in others)]
        group = list(dict.fromkeys(group + [name.removesuffix(":latest") for name in group]))
        members = dict.fromkeys(deployment for name in group for deployment in found.get(name, ()))
        if members:
            index |= dict.fromkeys(group, tuple(sorted(members, key=lambda deployment: not deployment.is_up)))
    return index
