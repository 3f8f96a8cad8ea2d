"""Answers that come later: an agent takes the task and is then asked, again and again, how it goes.

And what follows from servers of several versions: which paths one lacks, so that it need not be tried every time.
"""

import asyncio
import logging
import math
from typing import cast

from penstock.domain.errors import (
    ClientGone,
    PenstockError,
    ShuttingDown,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamTimeout,
)
from penstock.domain.fleet import Deployment
from penstock.engines.base import FetchFunction, FetchRequest, FetchResponse, PollingReader
from penstock.gateway.client import CancellableSource, fed_by
from penstock.gateway.upstream.relay.translating import Translated

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that one look may take: a status is there at once, whatever the run does."""
MISSES = 3
"""Looks in a row that may come to nothing, each after twice the pause: the run goes on without being looked at."""
LONGEST = 5.0
"""Seconds between two looks at the most."""
REMEMBERED = 600.0
"""Seconds after which a path that a server lacked is tried again: it may have been updated."""
_BUSY = frozenset({429, 500, 502, 503, 504})


class Polled(Translated):
    """A translated answer that may come later."""

    __slots__ = ()

    @property
    def _polling(self) -> PollingReader:
        return cast("PollingReader", self._reader)

    def closed(self, is_delimited: bool) -> None:
        chunks = list(self._polling.close())
        if self._polling.next_poll is None:
            self.finish(chunks)
        else:
            self._take(chunks)
            self.settle(None)

    async def follow(self, deployment: Deployment, fetch: FetchFunction, limit: float) -> None:
        """Ask until the answer is there, `limit` seconds at the most, and deliver it. Raises the PenstockError that
        stopped it; then the client has been told if its answer had begun."""
        if self._polling.next_poll is None:
            return
        if self.client.is_disconnected:
            raise ClientGone("the client hung up")
        asking = self.loop.create_task(self._ask(deployment, fetch, limit))
        reason: PenstockError = ShuttingDown("the gateway is stopping; ask again in a moment", retry_after=2)

        def cancel(error: PenstockError) -> None:
            nonlocal reason
            reason = error
            asking.cancel()

        try:
            with fed_by(self.client, CancellableSource(cancel)):
                await asking
            return
        except PenstockError as error:
            failure = error
        except asyncio.CancelledError:
            failure = reason
        except Exception as error:
            log.exception("cannot read how a run of %s goes", deployment.server.name)
            failure = UpstreamGarbage(f"the engine's answer cannot be read: {type(error).__name__}")
        self.on_failure(failure)
        raise failure

    async def _ask(self, deployment: Deployment, fetch: FetchFunction, limit: float) -> None:
        misses = 0
        try:
            async with asyncio.timeout(None if limit == math.inf else limit):
                while (later := self._polling.next_poll) is not None:
                    await asyncio.sleep(min(LONGEST, later.delay * 2**misses))
                    try:
                        fetched = await self._look(deployment, fetch, later.path)
                    except UpstreamError:
                        misses += 1
                        if misses > MISSES:
                            raise
                        continue
                    misses = 0
                    chunks = list(self._polling.read_poll(fetched))
                    if self._polling.next_poll is None:
                        self.finish(chunks)
                    else:
                        self._take(chunks)
        except TimeoutError:
            raise UpstreamTimeout(
                f"{deployment.url} was still at work after {limit:g} s; raise server.timeouts.total if runs take longer"
            ) from None

    async def _look(self, deployment: Deployment, fetch: FetchFunction, path: str) -> FetchResponse:
        fetched = await fetch(deployment.server, deployment.url, FetchRequest(path), PATIENCE)
        if fetched.status in _BUSY:
            raise UpstreamCut(f"{deployment.url} answered {fetched.status} when it was asked how the run goes")
        return fetched


class Missing:
    """The paths that servers are known to lack, by base URL."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def note(self, url: str, path: str, now: float) -> None:
        """A server has answered 404 to a path. `now` is monotonic seconds."""
        self._until[url, path] = now + REMEMBERED

    def lacks(self, url: str, path: str, now: float) -> bool:
        """Whether it has done so not long ago."""
        until = self._until.get((url, path))
        if until is None:
            return False
        if now < until:
            return True
        del self._until[url, path]
        return False
