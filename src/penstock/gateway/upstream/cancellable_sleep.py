"""Sleep on behalf of a client, which ends when the client disconnects."""

import asyncio

from penstock.domain.errors import ClientGone
from penstock.gateway.client import CancellableSource, Client, fed_by


async def sleep_while_connected(seconds: float, client: Client, loop: asyncio.AbstractEventLoop) -> None:
    """Sleep for `seconds`. Raises ClientGone at once when the client disconnects."""
    over: asyncio.Future[None] = loop.create_future()

    def end_sleep(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    with fed_by(client, CancellableSource(end_sleep)):
        timer = loop.call_later(seconds, end_sleep)
        try:
            await over
        finally:
            timer.cancel()
    if client.is_disconnected:
        raise ClientGone("The client disconnected.")
