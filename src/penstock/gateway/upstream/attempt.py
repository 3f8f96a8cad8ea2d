"""One try: a request to one deployment, until its answer is delivered or an error says why not."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.domain.errors import ClientGone, ConnectFailed, PenstockError, UpstreamCut, UpstreamError
from penstock.domain.fleet import Deployment
from penstock.engines.base import Engine, EngineRequest
from penstock.gateway.client import CancellableSource, Client, fed_by
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.metrics.meter import Meter, SeriesByWire
from penstock.gateway.upstream.relay.base import Relay
from penstock.gateway.upstream.resilience.breaker import BreakerPair
from penstock.gateway.upstream.transport.authorization import authorization_headers
from penstock.gateway.upstream.transport.connection import Connection
from penstock.gateway.upstream.transport.pool import Pool, Pools

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte` is for the first piece of an answer's body, `idle` between two pieces of it.

    `total` is for all of an answer that is not streamed.
    """

    first_byte: float = 240.0
    idle: float = 240.0
    total: float = 240.0


@dataclass(slots=True, eq=False)
class Target:
    """All that is known of a deployment before a call comes: drawn once, used until the fleet or the settings change.

    `heads` are request heads by path, each up to where the call's own lines begin.
    """

    deployment: Deployment
    engine: Engine
    pool: Pool
    timeouts: Timeouts
    live: ServerLoad
    guard: BreakerPair
    series: SeriesByWire
    heads: dict[str, bytes] = field(default_factory=dict)


class Attempts:
    """Makes single tries. `timeouts` tells those of a server by its name."""

    def __init__(
        self,
        pools: Pools,
        engines: Mapping[str, Engine],
        timeouts: Callable[[str], Timeouts],
        version: str,
        meter: Meter,
    ) -> None:
        self.pools = pools
        self.loop = asyncio.get_running_loop()
        self._engines = engines
        self._timeouts = timeouts
        self._meter = meter
        self._agent = f"penstock/{version}".encode()

    def target(self, deployment: Deployment, live: ServerLoad, guard: BreakerPair) -> Target:
        """Make ready for calls to a deployment."""
        server = deployment.server
        pool = self.pools.get(deployment.url, server.verify_tls)
        return Target(
            deployment=deployment,
            engine=self._engines[server.kind],
            pool=pool,
            timeouts=self._timeouts(server.name),
            live=live,
            guard=guard,
            series=self._meter.series_of(deployment.model.name, server.name),
        )

    async def run(self, target: Target, outgoing: EngineRequest, relay: Relay, client: Client) -> None:
        """Try once. Returns when the answer is delivered; raises the PenstockError that stopped it."""
        await self.finish(target, self.begin(target, outgoing, relay, client), relay, client)

    def begin(self, target: Target, outgoing: EngineRequest, relay: Relay, client: Client) -> bytes:
        """Draw the request, and send it at once if a kept connection is free; then `relay.connection` is set."""
        data = self._request(target, outgoing, client)
        connection = target.pool.take()
        if connection is not None:
            self._send(connection, target, data, relay, client)
        return data

    async def finish(self, target: Target, data: bytes, relay: Relay, client: Client) -> None:
        """What is left after `begin`, which often is nothing but a good answer.

        A kept connection that the engine closed just now is replaced by a new one, once: the engine has seen nothing.
        """
        connection = relay.connection
        if connection is None:
            await self._anew(target, data, relay, client)
        else:
            error = await relay
            if error is not None:
                stale = isinstance(error, UpstreamCut | ConnectFailed) and not connection.response_started
                if not stale or client.is_disconnected:
                    raise error
                relay.reset()
                await self._anew(target, data, relay, client)
        if relay.status >= 300:
            if relay.status < 400:
                raise UpstreamError(
                    f"{target.pool.address} answered with a redirect (status {relay.status}): "
                    "set the server's address to where it leads"
                )
            raise target.engine.parse_error_response(relay.status, relay.error_body, relay.retry_after)

    async def _anew(self, target: Target, data: bytes, relay: Relay, client: Client) -> None:
        """Over a connection that is opened for it."""
        opening = self.loop.create_task(target.pool.connect())
        try:
            with fed_by(client, CancellableSource(lambda _: opening.cancel())):
                connection = await opening
        except asyncio.CancelledError:
            raise ClientGone("the client hung up, or the gateway is stopping") from None
        if client.is_disconnected:
            target.pool.give_back(connection)
            return
        self._send(connection, target, data, relay, client)
        error: PenstockError | None = await relay
        if error is not None:
            raise error

    def _send(self, connection: Connection, target: Target, data: bytes, relay: Relay, client: Client) -> None:
        relay.connection = client.upstream = connection
        limits, now = target.timeouts, self.loop.time()
        until = math.inf if relay.call.stream else now + limits.total
        connection.send_request(data, relay, min(now + limits.first_byte, until), limits.idle, until)

    def _request(self, target: Target, outgoing: EngineRequest, client: Client) -> bytes:
        head = target.heads.get(outgoing.path)
        if head is None or outgoing.headers or outgoing.content_type != JSON:
            head = self._head(target, outgoing)
        body = outgoing.body
        return b"%b\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (head, client.id, len(body), body)

    def _head(self, target: Target, outgoing: EngineRequest) -> bytes:
        """The head of a request; kept when nothing in it is this call's own."""
        address = target.pool.address
        head = b"\r\n".join(
            [
                f"{outgoing.method} {address.prefix}{outgoing.path} HTTP/1.1".encode(),
                b"host: " + address.authority.encode(),
                b"user-agent: " + self._agent,
                b"content-type: " + outgoing.content_type,
                b"accept: */*",
                b"accept-encoding: identity",
                *authorization_headers(target.deployment.server, target.engine),
                *(name + b": " + value for name, value in outgoing.headers),
            ]
        )
        if outgoing.content_type == JSON and not outgoing.headers:
            target.heads[outgoing.path] = head
        return head
