"""Interface of a routing policy.

A policy sees what a gateway sees: its own calls, their times, and the results of probes. It never sees the length of a
response before its end, or future events.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from bench.scenarios.calls import VisibleCall


@dataclass(frozen=True, slots=True)
class Offer:
    """Model on a server, as discovery lists it.

    `size` is bytes in memory, `disk` bytes on disk, `slots` the number of simultaneous responses. `secondary` servers
    come after others that can start about as soon.
    """

    server: str
    model: str
    size: float
    slots: int
    disk: float = 0.0
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class SendCall:
    """Send the call to a server and model."""

    call: int
    server: str
    model: str


@dataclass(frozen=True, slots=True)
class FailCall:
    """Fail the call."""

    call: int


Action = SendCall | FailCall
Actions = Iterable[Action]


@dataclass(frozen=True, slots=True)
class CompletedCall:
    """Completed call with the usage that a server reports: tokens, and seconds of each phase."""

    call: int
    answer_tokens: int
    load_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Policy(Protocol):
    """Routing policy. Each method may action on any call that has arrived and is not running. Times are seconds.

    `wake_at` is the next time for `on_timer`, None for never; it is read after each other method.
    """

    wake_at: float | None

    def start(self, offers: tuple[Offer, ...]) -> None:
        """Receive the fleet before the first call."""

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        """Handle the arrival of a call."""

    def on_first_token(self, call: int, now: float) -> Actions:
        """Handle the first token of a call."""

    def on_completion(self, done: CompletedCall, now: float) -> Actions:
        """Handle a completed call."""

    def on_failure(self, call: int, now: float, has_started: bool) -> Actions:
        """Handle the failure of a call's server. The call may be sent again unless its response `has_started`."""

    def on_probe(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Actions:
        """Handle the result of a periodic probe: whether the server is up, and the loaded models."""

    def on_timer(self, now: float) -> Actions:
        """Handle the time in `wake_at`."""
