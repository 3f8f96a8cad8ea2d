"""A complete gateway in this process, on a free port, in front of the given servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from penstock.api.app import build_app
from penstock.api.error_responses import ErrorResponses
from penstock.app.gateway import Gateway
from penstock.app.gateway_status import build_api_dependencies
from penstock.config.settings import (
    ListenSettings,
    LlmSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TimeoutSettings,
)
from penstock.domain.fleet import Model, ServerStatus, State
from penstock.serving import pipelining, routes
from penstock.serving.context import ServingContext
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol
from penstock.serving.server import HttpServer, ListenOptions, apply_origin_policy, bind_socket
from tests.support.raw_client import RawClient


@dataclass(slots=True)
class RunningGateway:
    """A gateway that answers at `url`; tests may inspect its state."""

    gateway: Gateway
    http: HttpServer
    port: int
    stop: Callable[[], None]
    _clients: list[RawClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> list[GatewayProtocol]:
        """The clients' connections."""
        return [one for one in self.http.server_state.connections if isinstance(one, GatewayProtocol)]

    async def connect_client(self) -> RawClient:
        """Open a connection that is closed when the gateway ends."""
        client = await RawClient.connect(self.port)
        self._clients.append(client)
        return client

    async def connect_slow_client(self) -> RawClient:
        """Open a connection that buffers only a few kilobytes: the gateway soon notices that its client is slow."""
        before = set(self.connections)
        client = await RawClient.connect(self.port, receive_buffer=4096)
        self._clients.append(client)
        await wait_until(lambda: set(self.connections) - before)
        for connection in set(self.connections) - before:
            sock = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return client

    @property
    def unsent_bytes(self) -> int:
        """Return the bytes in the gateway's memory that clients have not read yet."""
        return sum(connection.transport.get_write_buffer_size() for connection in self.connections)

    async def send_request(self, request: bytes, patience: float = 5.0) -> Any:
        """Send one request on a connection of its own; return the response."""
        client = await RawClient.connect(self.port)
        try:
            await client.send(request)
            return await client.read_answer(patience)
        finally:
            client.close()

    def list_leftovers(self) -> dict[str, int]:
        """List the resources that calls hold now: all zero when nothing runs."""
        gateway = self.gateway
        return {
            "calls": gateway.pipeline.running,
            "slots": sum(live.running for live in gateway.catalog.loads.values()),
            "busy connections": gateway.pools.busy_count,
            "connecting": sum(pool._connecting for pool in gateway.pools._pools.values()),
        }

    async def wait_until_idle(self, within: float = 1.0) -> None:
        """Wait until no call holds anything; raise AssertionError with the leftovers."""
        try:
            await wait_until(lambda: not any(self.list_leftovers().values()), within)
        except TimeoutError:
            raise AssertionError(f"left behind: {self.list_leftovers()}") from None


async def wait_until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Wait until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  nothing signals the condition
            await asyncio.sleep(0.002)


def server_settings(
    name: str,
    url: str,
    kind: str = "vllm",
    *,
    connect: float = 5.0,
    first_byte: float = 10.0,
    idle: float = 10.0,
    **more: Any,
) -> ServerSettings:
    """Return the settings of one server."""
    timeouts = TimeoutSettings(connect, first_byte, idle, None)
    return ServerSettings(name, kind, (url,), timeouts=timeouts, **more)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def run_gateway(
    *servers: ServerSettings,
    models: tuple[str, ...] = ("m",),
    probe: bool = False,
    aliases: dict[str, tuple[str, ...]] | None = None,
    connect: float = 5.0,
    llm: LlmSettings | None = None,
    max_body: int = 32 * 1024 * 1024,
    keep_alive: float = 75.0,
    patience: float = 120.0,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    tidy: bool = True,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway. Its servers have `models` and are up, or are probed (`probe`) as in production.

    At the end everything that calls took must have been returned within a second (`tidy`), and no task is left.
    """
    before = asyncio.all_tasks()
    listen = ListenSettings(
        max_body=max_body, allowed_hosts=hosts, cors_origins=origins, timeouts=TimeoutSettings(connect)
    )
    settings = Settings(
        StorageSettings(Path()),
        servers=servers,
        server=listen,
        aliases=aliases or {},
        llm=llm or LlmSettings(),
        anything_configured=True,
    )
    gateway = Gateway(settings)
    gateway.pools._interval = 0.05  # time-outs are noticed sooner than in real life
    origin_policy = OriginPolicy(frozenset(hosts), frozenset(origins))
    table = routes.build_route_table(gateway.dialects)
    protocol = GatewayProtocol.for_context(ServingContext(gateway.pipeline, table, origin_policy, max_body))
    failures = ErrorResponses(gateway.dialects)
    app = apply_origin_policy(
        build_app(build_api_dependencies(gateway, origin_policy)),
        origin_policy,
        lambda path, error: failures.render(path, error, ""),
    )
    http = HttpServer(app, protocol, ListenOptions(keep_alive=keep_alive, request_timeout=patience), gateway.drain)
    if probe:
        await gateway.start()
    else:
        known = {watched.server.name: watched.server for watched in gateway.watcher._watched.values()}
        statuses = [ServerStatus(one, State.UP, one.url, tuple(map(Model, models))) for one in known.values()]
        gateway.catalog.publish(statuses)
    bound = bind_socket("127.0.0.1", 0)
    serving = asyncio.create_task(http.serve([bound]))
    await wait_until(lambda: http.started or serving.done())
    here = RunningGateway(gateway, http, bound.getsockname()[1], http.stop)
    quickly = mock.patch.object(pipelining, "LINGER_SECONDS", 0.05)
    quickly.start()
    try:
        yield here
        for client in here._clients:
            client.close()
        if tidy:
            await here.wait_until_idle()
    finally:
        quickly.stop()
        for client in here._clients:
            client.close()
        for listener in http.servers:
            listener.close()
        for connection in here.connections:
            connection.transport.abort()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await gateway.stop()
        await wait_until(lambda: not here.connections)
        bound.close()
    await wait_until(lambda: not tasks_since(before))


def tasks_since(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Return tasks that were started since and still run, without the current one."""
    return {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
