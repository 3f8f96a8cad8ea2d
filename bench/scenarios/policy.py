"""What a policy of routing is told and what it may do. It sees what a gateway sees: its own calls, the times they took,
and what a look at a server shows; never an answer's length before its end, nor anything that has yet to happen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from bench.scenarios.calls import Seen


@dataclass(frozen=True, slots=True)
class Offer:
    """A model on a server's disk, as discovery lists it. `size` is bytes in memory, `disk` bytes on disk, `slots` how
    many it answers at a time; `secondary` servers come after others that can begin about as soon."""

    server: str
    model: str
    size: float
    slots: int
    disk: float = 0.0
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Let this server answer the call with this model."""

    call: int
    server: str
    model: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Tell the caller that it failed."""

    call: int


Act = Send | GiveUp
Acts = Iterable[Act]


@dataclass(frozen=True, slots=True)
class Done:
    """A call that ended well, with what an engine tells at the end: tokens, and seconds of each part."""

    call: int
    answer_tokens: int
    load_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Policy(Protocol):
    """Every method may act on any call that has arrived and is not being answered. Times are seconds.

    `wake_at` is when `woken` is to be called next, None for never; it is read after every other method.
    """

    wake_at: float | None

    def start(self, offers: tuple[Offer, ...]) -> None:
        """The fleet, before the first call."""

    def arrived(self, call: Seen, now: float) -> Acts:
        """A call has come."""

    def began(self, call: int, now: float) -> Acts:
        """Its first token has come."""

    def ended(self, done: Done, now: float) -> Acts:
        """Its answer is complete."""

    def failed(self, call: int, now: float, begun: bool) -> Acts:
        """Its server broke. When nothing had been answered (`begun` is False) it may be sent again, else it is lost."""

    def looked(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Acts:
        """A look at a server, every few seconds: does it answer, and what is loaded."""

    def woken(self, now: float) -> Acts:
        """The time that `wake_at` asked for."""
