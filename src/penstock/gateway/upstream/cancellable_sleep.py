"""Waiting on a client's behalf, which ends when the client hangs up."""

import asyncio

from penstock.domain.errors import ClientGone, PenstockError
from penstock.gateway.client import Client


class _Pause:
    """What feeds a client while nothing does: all that can be done with it is to end it."""

    def __init__(self, over: "asyncio.Future[None]") -> None:
        self._over = over

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def abort(self, error: PenstockError) -> None:
        self.end()

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


async def pause(seconds: float, client: Client, loop: asyncio.AbstractEventLoop) -> None:
    """Wait. Raises ClientGone at once when the client hangs up."""
    over: asyncio.Future[None] = loop.create_future()
    source = _Pause(over)
    timer = loop.call_later(seconds, source.end)
    client.upstream = source
    try:
        await over
    finally:
        timer.cancel()
        client.upstream = None
    if client.gone:
        raise ClientGone("the client hung up")
