"""Hedged first byte: when a server is slow to begin, a second one is asked beside it, and who begins first answers.

Each try has a lane of its own to the client. The first to write takes the client; the other is stopped at that moment,
so that nothing is ever sent twice. Off unless asked for: it makes engines work for nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.domain.errors import ClientGone, PenstockError
from penstock.gateway.client import Client, RoutingHints, Source
from penstock.gateway.coroutine_runner import Outcome, drive

log = logging.getLogger(__name__)


class Lane:
    """A client as one of several tries sees it: gone as soon as another try has taken it."""

    __slots__ = ("_client", "_race", "error", "over", "place", "upstream")

    def __init__(self, race: "Race", client: Client, place: int) -> None:
        self._race = race
        self._client = client
        self.place = place
        self.upstream: Source | None = None
        self.over = False
        self.error: PenstockError | None = None

    @property
    def _mine(self) -> bool:
        return self._race.winner is self

    @property
    def keep_alive(self) -> bool:
        """As the client's."""
        return self._client.keep_alive

    @keep_alive.setter
    def keep_alive(self, kept: bool) -> None:
        self._client.keep_alive = kept

    @property
    def routing_hints(self) -> RoutingHints | None:
        """As the client's."""
        return self._client.routing_hints

    @routing_hints.setter
    def routing_hints(self, wishes: RoutingHints | None) -> None:
        self._client.routing_hints = wishes

    @property
    def id(self) -> bytes:
        """As the client's."""
        return self._client.id

    @property
    def request_id(self) -> str:
        """As the client's."""
        return self._client.request_id

    @property
    def gone(self) -> bool:
        """Whether it has hung up, or another try has it."""
        winner = self._race.winner
        return self._client.gone or (winner is not None and winner is not self)

    @property
    def response_started(self) -> bool:
        """Whether this try has written."""
        return self._mine and self._client.response_started

    @property
    def first_at(self) -> float:
        """As the client's."""
        return self._client.first_at

    @property
    def unsent_bytes(self) -> int:
        """As the client's, of this try's own bytes."""
        return self._client.unsent_bytes if self._mine else 0

    @property
    def chunked(self) -> bool:
        """As the client's."""
        return self._client.chunked

    def fail(self, error: PenstockError) -> None:
        """Errors are told by who runs the race."""

    def send_response(self, status: int, content_type: bytes, head: bytes, body: bytes) -> None:
        """Write a whole answer, if the client is still to be had."""
        if self._race.take(self):
            self._client.send_response(status, content_type, head, body)

    def start_response(self, content_type: bytes, head: bytes, first: bytes, length: int | None = None) -> None:
        """Begin an answer, if the client is still to be had."""
        if self._race.take(self):
            self._client.start_response(content_type, head, first, length)

    def start_raw_response(self, content_type: bytes, head: bytes, first: bytes) -> None:
        """The same with pieces that carry their framing."""
        if self._race.take(self):
            self._client.start_raw_response(content_type, head, first)

    def write(self, data: bytes) -> None:
        """Write a further piece."""
        if self._mine:
            self._client.write(data)

    @property
    def write_raw(self) -> Callable[[bytes], None]:
        """What writes bytes that carry their framing."""
        return self._client.write_raw if self._mine else _nowhere

    def finish(self, framed: bool = False) -> None:
        """End the answer."""
        if self._mine:
            self._client.finish(framed)

    def abort(self) -> None:
        """Close the client's connection in the middle of the answer."""
        if self._mine:
            self._client.abort()


class Race(Outcome["Lane | None"]):
    """The lanes to one client. Its outcome is the lane that took the client once that has ended, well or not, or None
    when all lanes have failed before."""

    __slots__ = ("_client", "lanes", "winner")

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self.lanes: list[Lane] = []
        self.winner: Lane | None = None

    def lane(self, place: int) -> Lane:
        """One more lane, for the candidate at this place."""
        lane = Lane(self, self._client, place)
        self.lanes.append(lane)
        return lane

    def take(self, lane: Lane) -> bool:
        """Whether this lane has the client now; the others are stopped."""
        if self.winner is None and not self._client.gone:
            self.winner = lane
            for other in self.lanes:
                if other is not lane and other.upstream is not None:
                    other.upstream.abort(ClientGone("another server began first"))
        return self.winner is lane

    def ended(self, lane: Lane, error: PenstockError | None) -> None:
        """A try is over."""
        lane.over = True
        lane.error = error
        if self.winner is None:
            if all(one.over for one in self.lanes):
                self.settle(None)
        elif self.winner.over:
            self.settle(self.winner)

    # Source

    def pause(self) -> None:
        """The client is slow."""
        if self.winner is not None and self.winner.upstream is not None:
            self.winner.upstream.pause()

    def resume(self) -> None:
        """It is no longer."""
        if self.winner is not None and self.winner.upstream is not None:
            self.winner.upstream.resume()

    def abort(self, error: PenstockError) -> None:
        """The client is gone."""
        for lane in tuple(self.lanes):
            if lane.upstream is not None:
                lane.upstream.abort(error)


async def hedge(
    client: Client,
    try_it: Callable[[Lane], Coroutine[Any, None, PenstockError | None]],
    spare: Callable[[], int | None],
    after: float,
    loop: asyncio.AbstractEventLoop,
) -> Race:
    """Try the first candidate, and after `after` seconds without a byte the one that `spare` names (by its place).

    `try_it` makes one try and gives its error, or None when it delivered. Returns when a try has delivered or broken
    after it began, or when none is left.
    """
    race = Race(client)
    client.upstream = race

    def second() -> None:
        if race.winner is None and not race.done and (place := spare()) is not None:
            drive(_run(race, race.lane(place), try_it))

    timer = loop.call_later(after, second)
    drive(_run(race, race.lane(0), try_it))
    try:
        await race
    finally:
        timer.cancel()
        client.upstream = None
    return race


async def _run(race: Race, lane: Lane, try_it: Callable[[Lane], Coroutine[Any, None, PenstockError | None]]) -> None:
    error: PenstockError | None = PenstockError("the gateway failed; its log says how")
    try:
        error = await try_it(lane)
    except PenstockError as failure:
        error = failure
    except Exception:
        log.exception("a hedged try failed in the gateway itself")
    race.ended(lane, error)


def _nowhere(_: bytes) -> None:
    """Where the bytes of a try go that has lost."""
