"""Hedged first byte: when a server is slow to respond, try a second one in parallel; the first to write wins.

Each attempt has its own view of the client. The first attempt to write wins the client; the other is aborted at that
moment, so that nothing is sent twice. Off by default, since it makes servers do work that is thrown away.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from penstock.domain.errors import ClientGone, PenstockError, create_internal_error
from penstock.gateway.client import Client, RoutingHints, Source, fed_by
from penstock.gateway.coroutine_runner import Outcome, run_now

log = logging.getLogger(__name__)


class HedgedClient:
    """A client as seen by one of several parallel attempts: disconnected as soon as another attempt has won.

    `index` is the attempt's candidate. `is_over` is True when the attempt has ended, by `error` if it failed.
    """

    __slots__ = ("_client", "_race", "error", "index", "is_over", "upstream")

    def __init__(self, race: "HedgeRace", client: Client, index: int) -> None:
        self._race = race
        self._client = client
        self.index = index
        self.upstream: Source | None = None
        self.is_over = False
        self.error: PenstockError | None = None

    @property
    def _is_winner(self) -> bool:
        return self._race.winner is self

    @property
    def keep_alive(self) -> bool:
        """See `Client`; so are all members without an own description."""
        return self._client.keep_alive

    @keep_alive.setter
    def keep_alive(self, keep_alive: bool) -> None:
        self._client.keep_alive = keep_alive

    @property
    def routing_hints(self) -> RoutingHints | None:
        """See `Client`."""
        return self._client.routing_hints

    @routing_hints.setter
    def routing_hints(self, hints: RoutingHints | None) -> None:
        self._client.routing_hints = hints

    @property
    def id(self) -> bytes:
        """See `Client`."""
        return self._client.id

    @property
    def request_id(self) -> str:
        """See `Client`."""
        return self._client.request_id

    @property
    def is_disconnected(self) -> bool:
        """True once the client has disconnected or another attempt has won."""
        winner = self._race.winner
        return self._client.is_disconnected or (winner is not None and winner is not self)

    @property
    def response_started(self) -> bool:
        """True once this attempt has written."""
        return self._is_winner and self._client.response_started

    @property
    def first_byte_at(self) -> float:
        """See `Client`."""
        return self._client.first_byte_at

    @property
    def unsent_bytes(self) -> int:
        """Bytes of this attempt's response that the client has not received yet."""
        return self._client.unsent_bytes if self._is_winner else 0

    @property
    def accepts_chunked(self) -> bool:
        """See `Client`."""
        return self._client.accepts_chunked

    def send_error(self, error: PenstockError) -> None:
        """Ignore the error: the owner of the race reports it."""

    def send_response(self, status: int, content_type: bytes, headers: bytes, body: bytes) -> None:
        """Win the client if it is free, and write a complete response."""
        if self._race.claim(self):
            self._client.send_response(status, content_type, headers, body)

    def start_response(self, content_type: bytes, headers: bytes, first: bytes, length: int | None = None) -> None:
        """Win the client if it is free, and start a response."""
        if self._race.claim(self):
            self._client.start_response(content_type, headers, first, length)

    def start_raw_response(self, content_type: bytes, headers: bytes, first: bytes) -> None:
        """Win the client if it is free, and start a response whose pieces carry their framing."""
        if self._race.claim(self):
            self._client.start_raw_response(content_type, headers, first)

    def write(self, data: bytes) -> None:
        """See `Client`."""
        if self._is_winner:
            self._client.write(data)

    @property
    def raw_writer(self) -> Callable[[bytes], None]:
        """See `Client`."""
        return self._client.raw_writer if self._is_winner else _discard

    def finish(self, framed: bool = False) -> None:
        """See `Client`."""
        if self._is_winner:
            self._client.finish(framed)

    def abort(self) -> None:
        """See `Client`."""
        if self._is_winner:
            self._client.abort()


RunAttempt: TypeAlias = Callable[[HedgedClient], Coroutine[Any, None, PenstockError | None]]


class HedgeRace(Outcome[HedgedClient | None]):
    """Parallel attempts for one client, and the client's source while they run.

    Its outcome is the winner once that has ended, successfully or not, or None when all attempts failed before writing.
    """

    __slots__ = ("_client", "attempts", "winner")

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self.attempts: list[HedgedClient] = []
        self.winner: HedgedClient | None = None

    def add_attempt(self, index: int) -> HedgedClient:
        """Add an attempt on the candidate with this index."""
        attempt = HedgedClient(self, self._client, index)
        self.attempts.append(attempt)
        return attempt

    def claim(self, attempt: HedgedClient) -> bool:
        """Let an attempt win the client if it is free, and abort the others. Return whether it is the winner."""
        if self.winner is None and not self._client.is_disconnected:
            self.winner = attempt
            for other in self.attempts:
                if other is not attempt and other.upstream is not None:
                    other.upstream.abort(ClientGone("Another server started its response first."))
        return self.winner is attempt

    def end_attempt(self, attempt: HedgedClient, error: PenstockError | None) -> None:
        """Record that an attempt has ended, and settle the race if it decides it."""
        attempt.is_over = True
        attempt.error = error
        if self.winner is None:
            if all(each.is_over for each in self.attempts):
                self.settle(None)
        elif self.winner.is_over:
            self.settle(self.winner)

    # Source

    def pause(self) -> None:
        """Pause the winner's server."""
        if self.winner is not None and self.winner.upstream is not None:
            self.winner.upstream.pause()

    def resume(self) -> None:
        """Resume the winner's server."""
        if self.winner is not None and self.winner.upstream is not None:
            self.winner.upstream.resume()

    def abort(self, error: PenstockError) -> None:
        """Abort all attempts."""
        for attempt in tuple(self.attempts):
            if attempt.upstream is not None:
                attempt.upstream.abort(error)


async def run_hedged(
    client: Client,
    run_attempt: RunAttempt,
    choose_second: Callable[[], int | None],
    after: float,
    loop: asyncio.AbstractEventLoop,
) -> HedgeRace:
    """Try the first candidate, and after `after` seconds without a byte the one whose index `choose_second` returns.

    `run_attempt` makes one attempt and returns its error, or None when it delivered a response. Returns when an attempt
    has delivered, has failed after it wrote, or when all have failed.
    """
    race = HedgeRace(client)

    def start_second() -> None:
        if race.winner is None and not race.is_settled and (index := choose_second()) is not None:
            run_now(_run_to_end(race, race.add_attempt(index), run_attempt))

    with fed_by(client, race):
        timer = loop.call_later(after, start_second)
        run_now(_run_to_end(race, race.add_attempt(0), run_attempt))
        try:
            await race
        finally:
            timer.cancel()
    return race


async def _run_to_end(race: HedgeRace, attempt: HedgedClient, run_attempt: RunAttempt) -> None:
    error: PenstockError | None = create_internal_error()
    try:
        error = await run_attempt(attempt)
    except PenstockError as failure:
        failure.drop_traces()
        error = failure
    except Exception:
        log.exception("A hedged attempt failed because of an error in the gateway.")
    race.end_attempt(attempt, error)


def _discard(_: bytes) -> None:
    """Drop bytes of an attempt that has lost."""
