"""The record of one server under watch."""

import asyncio
from dataclasses import dataclass, field

from penstock.control.discovery.schedule import ProbeSchedule
from penstock.domain.fleet import Model, Server, ServerStatus
from penstock.gateway.fleet.server_load import ServerLoad


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
    last_call_number: int = -1
    """Number of the last call that was sent to the server before its last probe; -1 if calls ran meanwhile."""

    def request_probe(self, now: float, is_urgent: bool = False) -> None:
        """Probe the server soon, even if its next probe is due later."""
        if self.schedule.request_probe(now, is_urgent):
            self.wake.set()

    def note_calls(self, load: ServerLoad | None) -> None:
        """Note, as a probe begins, which calls it can know of."""
        self.last_call_number = -1 if load is None or load.running else load.last_call_number

    def may_have_changed(self, load: ServerLoad | None, now: float) -> bool:
        """Return True if the last probe may be out of date: by its age, or because a call came after it."""
        return self.schedule.is_outdated(now) or load is None or load.last_call_number != self.last_call_number


def is_same_endpoint(first: Server, second: Server) -> bool:
    """Return True if two settings of a server reach the same place in the same way: its status still holds."""
    return _get_endpoint(first) == _get_endpoint(second)


def _get_endpoint(server: Server) -> tuple[object, ...]:
    return server.kind, server.urls, server.api_key, server.credentials, server.verify_tls, server.is_simulated
