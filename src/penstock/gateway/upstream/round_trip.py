"""One round trip: send a request to a server over its pool and await the relay of the response.

A round trip is `start`, then `finish`.
"""

import asyncio
import math

from penstock.domain.errors import ClientGone, ConnectFailed, PenstockError, UpstreamCut, UpstreamError
from penstock.engines.base import EngineRequest
from penstock.gateway.client import CancellableSource, fed_by
from penstock.gateway.upstream.relay.base import Relay
from penstock.gateway.upstream.targets import Target
from penstock.gateway.upstream.transport.authorization import authorization_headers
from penstock.gateway.upstream.transport.connection import Connection

INVALID_STATUS = 502
"""Stands for a status that HTTP does not know."""
JSON = b"application/json"


class RoundTrips:
    """Makes round trips. `user_agent` names the gateway to servers."""

    def __init__(self, user_agent: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._user_agent = user_agent.encode()

    def start(self, target: Target, request: EngineRequest, relay: Relay) -> bytes:
        """Render a request, and send it if a kept connection is free; then `relay.connection` is set."""
        head = target.request_heads.get(request.path)
        if head is None or request.headers or request.content_type != JSON:
            head = self._render_head(target, request)
        body = request.body
        data = b"%b\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (head, relay.client.id, len(body), body)
        connection = target.pool.take()
        if connection is not None:
            self._send(connection, target, data, relay)
        return data

    async def finish(self, target: Target, data: bytes, relay: Relay) -> None:
        """Await the delivery of the response to the request that `start` returned, and send it if `start` did not.

        Raises the PenstockError that stopped the round trip.

        A kept connection that the server has just closed is replaced once: the server has not seen the request.
        """
        connection = relay.connection
        if connection is None:
            await self._run_on_new_connection(target, data, relay)
        else:
            error = await relay
            if error is not None:
                was_closed = isinstance(error, UpstreamCut | ConnectFailed) and not connection.response_started
                if not was_closed or relay.client.is_disconnected:
                    raise error
                relay.reset()
                await self._run_on_new_connection(target, data, relay)
        if relay.status >= 300:
            raise _error_response(target, relay)

    async def _run_on_new_connection(self, target: Target, data: bytes, relay: Relay) -> None:
        client = relay.client
        # A task of its own, because the coroutine of a call may not use asyncio.timeout (see coroutine_runner).
        connecting = self.loop.create_task(target.pool.connect())
        try:
            with fed_by(client, CancellableSource(lambda _: connecting.cancel())):
                connection = await connecting
        except asyncio.CancelledError:
            raise ClientGone("The client disconnected, or the gateway is stopping.") from None
        if client.is_disconnected:
            target.pool.give_back(connection)
            return
        self._send(connection, target, data, relay)
        error: PenstockError | None = await relay
        if error is not None:
            raise error

    def _send(self, connection: Connection, target: Target, data: bytes, relay: Relay) -> None:
        """Send the request and attach the connection to the client; the attempt's lease detaches it."""
        relay.connection = relay.client.upstream = connection
        timeouts, now = target.timeouts, self.loop.time()
        total_deadline = math.inf if relay.call.stream else now + timeouts.total
        deadline = min(now + timeouts.first_byte, total_deadline)
        connection.send_request(data, relay, deadline, timeouts.idle, total_deadline, timeouts.total)

    def _render_head(self, target: Target, request: EngineRequest) -> bytes:
        """Render the head up to the call's own lines, and keep it when other calls can use it."""
        address = target.pool.address
        head = b"\r\n".join(
            [
                f"{request.method} {address.prefix}{request.path} HTTP/1.1".encode(),
                b"host: " + address.authority.encode(),
                b"user-agent: " + self._user_agent,
                b"content-type: " + request.content_type,
                b"accept: */*",
                b"accept-encoding: identity",
                *authorization_headers(target.deployment.server, target.engine),
                *(name + b": " + value for name, value in request.headers),
            ]
        )
        if request.content_type == JSON and not request.headers:
            target.request_heads[request.path] = head
        return head


def _error_response(target: Target, relay: Relay) -> PenstockError:
    """Return the error that an error response means."""
    if relay.status < 400:
        return UpstreamError(
            f"{target.pool.address} responded with a redirect (status {relay.status}). "
            "Set the server's address to the target of the redirect."
        )
    status = relay.status if relay.status < 600 else INVALID_STATUS
    return target.engine.parse_error_response(status, relay.error_body, relay.retry_after)
