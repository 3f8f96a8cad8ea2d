"""The record of one server under watch."""

import asyncio
from dataclasses import dataclass, field

from penstock.control.discovery.schedule import ProbeSchedule
from penstock.domain.fleet import Model, Server, ServerStatus


@dataclass(slots=True, eq=False)
class WatchedServer:
    """A server and the state of its probes.

    `joined`: the server is part of the fleet; an unconfigured one joins when it first answers. `models` are all models
    of the last probe, including those that the settings do not offer.
    """

    server: Server
    status: ServerStatus
    schedule: ProbeSchedule
    joined: bool
    models: tuple[Model, ...] = ()
    unexpected_error: str = ""
    """The error of the last probe if it was not a `PenstockError`, so that it is logged only once."""
    probed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first probe has ended, or never will."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    probe_done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the current probe, or else the next one, has ended."""
    task: asyncio.Task[None] | None = None

    def request_probe(self, now: float) -> None:
        """Probe the server soon, even if its next probe is due later."""
        if self.schedule.request_probe(now):
            self.wake.set()


def is_same_endpoint(first: Server, second: Server) -> bool:
    """Return True if two settings of a server reach the same place in the same way: its status still holds."""
    return _get_endpoint(first) == _get_endpoint(second)


def _get_endpoint(server: Server) -> tuple[object, ...]:
    return server.kind, server.urls, server.api_key, server.credentials, server.verify_tls, server.is_simulated
