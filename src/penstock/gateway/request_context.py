"""State of one call, from its first byte to its end."""

from typing import Protocol

from penstock.dialects.base import Endpoint
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.fault import Fault
from penstock.domain.fleet import Deployment
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.routing_decision import Decision
from penstock.gateway.client import Client
from penstock.gateway.metrics.meter import SeriesByWire
from penstock.gateway.metrics.series import OK
from penstock.gateway.resumable_stream import ResumableStream

UNREAD_CALL = Call(wire="", operation=Operation.CHAT, model="", stream=False, body=b"")
"""Stands for the call until its body has been read."""
UNROUTED = Decision(())
"""Stands for the decision until there is one."""
NO_USAGE = Usage(estimated=True)
"""Stands for the usage of a call that no server answered."""


class RelayedResponse(Protocol):
    """Response of the last attempt, as its relay saw it."""

    @property
    def status(self) -> int:
        """The server's HTTP status; 0 before it responded."""
        ...

    @property
    def request_sent(self) -> bool:
        """True if the request was written to a connection."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Tokens that the server reported; None when it reported none."""
        ...

    @property
    def piece_count(self) -> int:
        """Pieces of a stream that were relayed: about one a token."""
        ...


class RequestContext:
    """One call: who sent it, what was decided, and what became of it. Made once a call by the pipeline.

    `started_at` is monotonic seconds. `call` and `decision` are `UNREAD_CALL` and `UNROUTED` until they are known.
    Attempts write `attempts` (their number), and of the last attempt its `deployment`, the
    `series` that count its calls, its `relay`, `model_was_loaded`
    (the model was in memory) and `running_before` (calls that its server had). `queue_seconds` is how long the call
    waited in swap queues. `content` is the call fully decoded, where an attempt needed that; `stream` is set for a
    stream that another server may continue. `fault` is whose fault the last attempt is, once it has failed; `failure`
    is the error that ended the call.

    `finish` sets what observers need: `finished_at` (monotonic), `code` (`ok` or the failure's) and `usage`, estimated
    where the server reported none.
    """

    __slots__ = (
        "attempts", "call", "client", "code", "content", "decision", "deployment", "endpoint", "failure", "fault",
        "finished_at", "model_was_loaded", "queue_seconds", "relay", "running_before", "series", "started_at", "stream",
        "usage",
    )  # fmt: skip

    fault: Fault
    finished_at: float
    code: str
    usage: Usage

    def __init__(self, client: Client, endpoint: Endpoint, started_at: float) -> None:
        self.client = client
        self.endpoint = endpoint
        self.started_at = started_at
        self.call = UNREAD_CALL
        self.decision = UNROUTED
        self.failure: PenstockError | None = None
        self.attempts = 0
        self.deployment: Deployment | None = None
        self.series: SeriesByWire | None = None
        self.relay: RelayedResponse | None = None
        self.model_was_loaded = True
        self.running_before = 0
        self.queue_seconds = 0.0
        self.content: Content | None = None
        self.stream: ResumableStream | None = None

    def start_attempt(self, deployment: Deployment, series: SeriesByWire) -> None:
        """Note that an attempt starts; an attempt before it has failed."""
        if self.series is not None:
            self.series[self.endpoint.wire].count_retry()
        self.attempts += 1
        self.deployment = deployment
        self.series = series
        self.relay = None

    def finish(self, now: float) -> None:
        """Complete the record of a call that has ended; `now` is monotonic seconds."""
        failure, relay = self.failure, self.relay
        self.finished_at = now
        self.code = OK if failure is None else failure.code
        if relay is None:
            self.usage = NO_USAGE
        else:  # a stream without a report of its usage has about one token a piece
            self.usage = relay.usage or Usage(completion_tokens=relay.piece_count, estimated=True)

    def fork(self, client: Client, attempts: int) -> "RequestContext":
        """Return a context for a parallel attempt.

        `client` is its own side of the client, `attempts` the number of attempts made before.
        """
        forked = RequestContext(client, self.endpoint, self.started_at)
        forked.call = self.call
        forked.decision = self.decision
        forked.queue_seconds = self.queue_seconds
        forked.attempts = attempts
        return forked

    def adopt_result(self, forked: "RequestContext", attempts: int) -> None:
        """Take over the result of a fork; `attempts` is the number of attempts made in all forks."""
        self.attempts = attempts
        self.deployment = forked.deployment
        self.series = forked.series
        self.relay = forked.relay
        self.model_was_loaded = forked.model_was_loaded
        self.running_before = forked.running_before
