"""Responses that come later: an agent accepts the task, and its state is polled until the run has ended."""

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
    UpstreamTimeout,
)
from penstock.domain.fleet import Deployment
from penstock.domain.response import Chunk
from penstock.engines.base import FetchFunction, FetchRequest, FetchResponse, PollingReader
from penstock.gateway.client import CancellableSource, fed_by
from penstock.gateway.upstream.relay.base import unreadable_response
from penstock.gateway.upstream.relay.translating import TranslatingRelay

log = logging.getLogger(__name__)

POLL_TIMEOUT = 10.0
"""Seconds for one poll: a state is available at once, whatever the run does."""
MAX_FAILED_POLLS = 3
"""Failed polls in a row before the response fails, each after twice the pause: the run itself goes on."""
MAX_POLL_INTERVAL = 5.0
"""Seconds between two polls."""
_BUSY_STATUSES = frozenset({429, 500, 502, 503, 504})


class PollingRelay(TranslatingRelay):
    """Translating relay of a response that may come later."""

    __slots__ = ()

    @property
    def _polling_reader(self) -> PollingReader:
        return cast("PollingReader", self._reader)

    def _complete(self, is_delimited: bool) -> None:
        self._relay_or_finish(list(self._polling_reader.close(is_delimited)))
        self.settle(None)

    def _relay_or_finish(self, chunks: list[Chunk]) -> None:
        if self._polling_reader.next_poll is None:
            self._finish(chunks)
        else:
            self._relay_chunks(chunks)

    async def follow_up(self, deployment: Deployment, fetch: FetchFunction, timeout: float) -> None:  # noqa: ASYNC109
        """Poll until the response is complete, `timeout` seconds at most, and deliver it.

        Raises the PenstockError that stopped it; a response that has started has then been ended with the error.
        """
        if self._polling_reader.next_poll is None:
            return
        if self.client.is_disconnected:
            raise ClientGone("The client disconnected.")
        # A task of its own, because the coroutine of a call may not use asyncio.timeout (see coroutine_runner).
        polling = self.loop.create_task(self._poll_until_complete(deployment, fetch, timeout))
        cancelled_by: PenstockError = ShuttingDown("The gateway is stopping. Retry in a moment.", retry_after=2)

        def cancel(error: PenstockError) -> None:
            nonlocal cancelled_by
            cancelled_by = error
            polling.cancel()

        try:
            with fed_by(self.client, CancellableSource(cancel)):
                await polling
            return
        except PenstockError as error:
            failure = error
        except asyncio.CancelledError:
            failure = cancelled_by
        except Exception as error:
            log.exception("The state of a run on %s could not be read.", deployment.server.name)
            failure = unreadable_response(error)
        self.on_failure(failure)
        raise failure

    async def _poll_until_complete(self, deployment: Deployment, fetch: FetchFunction, timeout: float) -> None:  # noqa: ASYNC109
        failed_polls = 0
        try:
            async with asyncio.timeout(None if timeout == math.inf else timeout):
                while (poll := self._polling_reader.next_poll) is not None:
                    await asyncio.sleep(min(MAX_POLL_INTERVAL, poll.delay * 2**failed_polls))
                    try:
                        state = await _fetch_state(deployment, fetch, poll.path)
                    except UpstreamError:
                        failed_polls += 1
                        if failed_polls > MAX_FAILED_POLLS:
                            raise
                        continue
                    failed_polls = 0
                    self._relay_or_finish(list(self._polling_reader.read_poll(state)))
        except TimeoutError:
            raise UpstreamTimeout(
                f"{deployment.url} had not finished the run after {timeout:g} s. "
                "Raise server.timeouts.total if runs take longer."
            ) from None


async def _fetch_state(deployment: Deployment, fetch: FetchFunction, path: str) -> FetchResponse:
    response = await fetch(deployment.server, deployment.url, FetchRequest(path), POLL_TIMEOUT)
    if response.status in _BUSY_STATUSES:
        raise UpstreamCut(f"{deployment.url} responded to a poll of the run with status {response.status}.")
    return response
