"""What the tries of one call leave behind, for those who settle it."""

from penstock.domain.content import Content
from penstock.domain.fleet import Deployment
from penstock.gateway.upstream.relay.base import Relay
from penstock.gateway.upstream.relay.resumable import Thread


class Tries:
    """What became of a call: how often it was tried, and where it ended; its content once that was read, and its thread
    when it may be gone on with. `held`: the model was in memory; `ahead`: calls that the server then had; `waited`:
    seconds until its turn came."""

    __slots__ = ("ahead", "attempts", "content", "deployment", "held", "relay", "thread", "waited")

    def __init__(self, attempts: int = 0) -> None:
        self.attempts = attempts
        self.deployment: Deployment | None = None
        self.relay: Relay | None = None
        self.content: Content | None = None
        self.thread: Thread | None = None
        self.held = True
        self.ahead = 0
        self.waited = 0.0
