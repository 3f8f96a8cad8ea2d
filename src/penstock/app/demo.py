"""The pair of simulated servers that answers while no real model server exists."""

import asyncio

from penstock.domain.fleet import Priority, Server
from penstock.sim import Simulator, demo_servers

DEMO_SERVER_NAMES = ("remote", "localhost")
POLL_SECONDS = 0.2


class DemoServers:
    """The simulated servers of one gateway: at most one pair."""

    def __init__(self) -> None:
        self._simulators: list[Simulator] = []

    async def start(self) -> list[Server]:
        """Start the pair and return it as servers to route to."""
        servers: list[Server] = []
        for name, options in zip(DEMO_SERVER_NAMES, demo_servers(), strict=True):
            simulator = Simulator(options)
            await simulator.start()
            self._simulators.append(simulator)
            priority = Priority.PRIMARY if not servers else Priority.SECONDARY
            servers.append(Server(name, options.kind, (simulator.url,), priority, options.slots, is_simulated=True))
        return servers

    async def retire(self) -> None:
        """Wait until the running responses are complete, then stop the servers."""
        while any(simulator.running or simulator.waiting for simulator in self._simulators):  # noqa: ASYNC110 (they run in a loop of their own)
            await asyncio.sleep(POLL_SECONDS)
        await self.stop()

    async def stop(self) -> None:
        """Stop the servers at once."""
        simulators, self._simulators = self._simulators, []
        for simulator in simulators:
            await simulator.stop()
