"""Members of a local network that is this machine's loopback, by the real multicast DNS."""

import asyncio
import socket
from collections.abc import Callable
from uuid import uuid4

import pytest
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

LOOPBACK = "127.0.0.1"


def skip_without_network() -> None:
    """Skip a test where this machine has no interface but loopback, so that nothing can be announced to others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("no network but loopback")


class LanHost:
    """Another member of the network, with a name and services of its own. `unique` keeps test runs apart."""

    def __init__(self) -> None:
        self.unique = uuid4().hex[:8]
        self.host = f"box-{self.unique}.local"
        self.type = f"_t{self.unique}._tcp"
        self._zeroconf = AsyncZeroconf(interfaces=[LOOPBACK], ip_version=IPVersion.V4Only)

    def service_info(self, *addresses: str, port: int = 11434, name: str = "GPU box") -> AsyncServiceInfo:
        return AsyncServiceInfo(
            f"{self.type}.local.",
            f"{name}.{self.type}.local.",
            port=port,
            server=f"{self.host}.",
            properties={"version": "1"},
            parsed_addresses=list(addresses),
        )

    async def announce(self, *addresses: str, **more) -> None:
        """Announce a service and wait for the last announcement: a later one would undo a `leave`."""
        announced = await self._zeroconf.async_register_service(
            self.service_info(*addresses, **more), cooperating_responders=True
        )
        await announced

    async def move(self, *addresses: str) -> None:
        await self._zeroconf.async_update_service(self.service_info(*addresses))

    async def leave(self) -> None:
        await (await self._zeroconf.async_unregister_service(self.service_info(LOOPBACK)))

    async def close(self) -> None:
        await self._zeroconf.async_close()


class CallbackWaiter:
    """Lets a test wait for a call of a callback."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def __call__(self, *_: object) -> None:
        self._came.set()

    async def wait_until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._came.clear()
                await self._came.wait()
