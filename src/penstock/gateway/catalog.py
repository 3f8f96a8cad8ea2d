"""The fleet as the gateway sees it: an immutable snapshot, and beside it live counters that outlast snapshots."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penstock.domain.fleet import Deployment, Fleet, Model, ServerStatus, State


@dataclass(slots=True)
class Live:
    """What one server is doing now. Probes never touch it.

    `running` is calls sent and not yet ended; `failures` counts consecutive failed calls, `failed_at` is when the last
    one was (monotonic seconds).
    """

    running: int = 0
    failures: int = 0
    failed_at: float = 0.0


class Catalog:
    """Owner of the snapshot. `fleet` is replaced whole by `publish`; readers take it once and keep it for a call."""

    def __init__(self, aliases: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.fleet = Fleet()
        self.live: dict[str, Live] = {}
        self.aliases: Mapping[str, tuple[str, ...]] = aliases or {}

    def publish(self, statuses: Iterable[ServerStatus]) -> Fleet:
        """Make this the fleet. Live counters of servers that stay are kept; of others dropped when they are idle."""
        statuses = tuple(statuses)
        index = _index(statuses, self.aliases)
        self.fleet = Fleet(statuses, MappingProxyType(index), self.fleet.version + 1)
        names = {status.server.name for status in statuses}
        for name in names:
            self.live.setdefault(name, Live())
        for name in [n for n, live in self.live.items() if n not in names and not live.running]:
            del self.live[name]
        return self.fleet

    def live_of(self, server: str) -> Live:
        """The counters of a server, made anew for one that has been dropped meanwhile."""
        live = self.live.get(server)
        if live is None:
            live = self.live[server] = Live()
        return live


def names_of(model: Model) -> tuple[str, ...]:
    """The lower-case names under which a model is found: its own, without `:latest`, and its server's aliases."""
    names = [name.lower() for name in (model.name, *model.aliases)]
    return tuple(dict.fromkeys(names + [name.removesuffix(":latest") for name in names]))


def _index(
    statuses: tuple[ServerStatus, ...], aliases: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[Deployment, ...]]:
    """Every name of every model, servers that are up first. An alias links all the names of its group both ways.

    A server that is being drained is left out: no call may go there, not even as the last resort.
    """
    found: dict[str, list[Deployment]] = {}
    usable = [status for status in statuses if status.state is not State.DRAINING]
    for status in sorted(usable, key=lambda status: not status.up):
        slots = status.slots or status.server.max_concurrent
        here: dict[str, Model] = {}
        for model in status.models:
            for name in names_of(model):
                # a model's own name counts more than another's name without its tag
                if name not in here or name == model.name.lower():
                    here[name] = model
        for name, model in here.items():
            deployment = Deployment(status.server, model, status.url or status.server.url, slots, status.up)
            found.setdefault(name, []).append(deployment)
    index = {name: tuple(deployments) for name, deployments in found.items()}
    for alias, others in aliases.items():
        group = [alias.lower(), *(other.lower() for other in others)]
        group = list(dict.fromkeys(group + [name.removesuffix(":latest") for name in group]))
        members = dict.fromkeys(deployment for name in group for deployment in found.get(name, ()))
        if members:
            index |= dict.fromkeys(group, tuple(sorted(members, key=lambda deployment: not deployment.up)))
    return index
