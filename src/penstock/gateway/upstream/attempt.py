"""One try: a request to one deployment, until its answer is delivered or an error says why not."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock.domain.errors import ConnectFailed, UpstreamCut
from penstock.domain.fleet import Server
from penstock.engines.base import Engine, Outgoing
from penstock.gateway.client import Client
from penstock.gateway.upstream.pool import Pool, Pools
from penstock.gateway.upstream.relay import Relay

MAX_HEADS = 4096


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte` is for the first piece of an answer's body, `idle` between two pieces of it."""

    first_byte: float = 240.0
    idle: float = 240.0


def credentials(server: Server, engine: Engine) -> list[bytes]:
    """The header lines that let us in: the engine's own form of an API key, or HTTP Basic."""
    lines = [name + b": " + value for name, value in engine.headers(server.api_key)]
    if server.credentials:
        lines.append(b"authorization: Basic " + base64.b64encode(server.credentials.encode()))
    return lines


class Attempts:
    """Makes single tries; `timeouts` tells those of a server.

    Keeps the request heads that it has drawn, one for each address, path and key.
    """

    def __init__(
        self, pools: Pools, engines: Mapping[str, Engine], timeouts: Callable[[str], Timeouts], version: str
    ) -> None:
        self.pools = pools
        self.loop = asyncio.get_running_loop()
        self._engines = engines
        self.timeouts = timeouts
        self._agent = f"penstock/{version}".encode()
        self._heads: dict[tuple[Pool, str, str, str, bytes], bytes] = {}

    async def run(self, server: Server, url: str, outgoing: Outgoing, relay: Relay, client: Client) -> None:
        """Try once. Returns when the answer is delivered; raises the PenstockError that stopped it.

        A kept connection that the engine closed just now is replaced by a new one, once: the engine has seen nothing.
        """
        pool = self.pools.get(url, server.verify_tls)
        data = self._request(pool, server, outgoing, client)
        fresh = False
        while True:
            connection = pool.take()
            if connection is None:
                fresh = True
                connection = await self.loop.create_task(pool.connect())
                if client.gone:
                    pool.give_back(connection)
                    return
            relay.connection = client.source = connection
            limits = self.timeouts(server.name)
            connection.request(data, relay, self.loop.time() + limits.first_byte, limits.idle)
            error = await relay.done
            if error is None:
                break
            stale = not fresh and isinstance(error, UpstreamCut | ConnectFailed) and not connection.started
            if not stale or client.gone:
                raise error
            relay.again()
        if relay.status >= 300:
            raise self._engines[server.kind].failure(relay.status, relay.error_body, relay.retry_after)

    def forget(self) -> None:
        """Draw request heads anew: keys may have changed."""
        self._heads.clear()

    def _request(self, pool: Pool, server: Server, outgoing: Outgoing, client: Client) -> bytes:
        key = (pool, server.name, outgoing.method, outgoing.path, outgoing.content_type)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            lines = [
                f"{outgoing.method} {pool.address.prefix}{outgoing.path} HTTP/1.1".encode(),
                b"host: " + pool.address.authority.encode(),
                b"user-agent: " + self._agent,
                b"content-type: " + outgoing.content_type,
                b"accept: */*",
                *credentials(server, self._engines[server.kind]),
            ]
            self._heads[key] = head = b"\r\n".join(lines)
        more = b"".join(b"\r\n%b: %b" % header for header in outgoing.headers) if outgoing.headers else b""
        return b"%b%b\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            head, more, client.id, len(outgoing.body), outgoing.body,
        )  # fmt: skip
