"""An engine's answer on its way to the client: what passing it through and translating it share.

A relay is the sink of one attempt, and itself the outcome to wait for: None when the answer has been delivered whole,
else the error that stopped it. As long as `client.begun` is False nothing has reached the client and another server may
be tried; after that a relay has itself ended the client's stream with an error in its dialect.
"""

import asyncio
import logging

from penstock.dialects.base import Endpoint
from penstock.domain.errors import ClientStalled, PenstockError, UpstreamGarbage
from penstock.domain.request import Call
from penstock.domain.response import Usage
from penstock.gateway.client import Client
from penstock.gateway.coroutine_runner import Outcome
from penstock.gateway.upstream.transport.connection import Connection, Headers

log = logging.getLogger(__name__)

MAX_ERROR = 64 * 1024


class Relay(Outcome[PenstockError | None]):
    """What passing through and translating share: the head, error answers, and the outcome."""

    # Slots, all of them set at once: attributes that the interpreter finds by position, not by name.
    __slots__ = (
        "_body", "_failing", "_head", "_held", "_last", "_length", "_open", "_prior", "_raw", "_second", "_size",
        "_streaming", "call", "client", "connection", "content_type", "endpoint", "error_body", "first_at", "loop",
        "piece_count", "retry_after", "status", "usage",
    )  # fmt: skip

    def __init__(
        self, client: Client, call: Call, endpoint: Endpoint, head: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.is_settled = False
        self.value = None
        self._resume_waiter = None
        self.client = client
        self.call = call
        self.endpoint = endpoint
        self.loop = loop
        self.connection: Connection | None = None
        self.content_type = b""
        self.error_body = b""
        self.first_at = 0.0
        self.piece_count = 0
        self.retry_after: float | None = None
        self.status = 0
        self.usage: Usage | None = None
        self._head = head
        self._body: list[bytes] = []
        self._failing = False
        self._size = 0
        self._open = False
        self._streaming = False
        self._raw = False
        self._length: int | None = None
        self._held = self._last = self._prior = self._second = b""

    @property
    def request_sent(self) -> bool:
        """Whether the request was written to a connection."""
        return self.connection is not None

    # Sink

    def on_head(self, status: int, headers: Headers) -> None:
        """The engine's status decides whether its body is an answer or an error."""
        self.status = status
        self.content_type = headers.get(b"content-type", b"")
        length = headers.get(b"content-length")
        if status >= 300:
            self._failing = True
            self.retry_after = _seconds(headers.get(b"retry-after", b""))
            return
        self.opened(None if length is None else int(length))

    def on_body(self, data: bytes) -> None:
        """A piece of the answer."""
        if self._failing:
            if self._size < MAX_ERROR:
                self._body.append(data)
                self._size += len(data)
            return
        try:
            self.piece(data)
        except PenstockError as error:
            self._break(error)
        except Exception as error:
            log.exception("cannot read an answer in %s", self.endpoint.wire)
            self._break(UpstreamGarbage(f"the engine's answer cannot be read: {type(error).__name__}"))

    def on_end(self, is_delimited: bool) -> None:
        """The engine's response is over."""
        if self._failing:
            self.error_body = b"".join(self._body)
            self.settle(None)
            return
        try:
            self.closed(is_delimited)
        except PenstockError as error:
            self.on_failure(error)
        except Exception as error:
            log.exception("cannot finish an answer in %s", self.endpoint.wire)
            self.on_failure(UpstreamGarbage(f"the engine's answer cannot be read: {type(error).__name__}"))

    def on_failure(self, error: PenstockError) -> None:
        """The engine's response broke off."""
        client = self.client
        if client.response_started and not client.is_disconnected:
            if isinstance(error, ClientStalled):
                client.abort()
            else:
                self.broken(error)
        self.settle(error)

    def unsent_bytes(self) -> int:
        """What the client has not taken yet."""
        return self.client.unsent_bytes

    # What the two kinds do differently

    def opened(self, length: int | None) -> None:
        """An answer begins; `length` in bytes where the engine tells it."""
        raise AssertionError

    def piece(self, data: bytes) -> None:
        """A piece of it."""
        raise AssertionError

    def closed(self, is_delimited: bool) -> None:
        """It has ended; `is_delimited` as in `ResponseSink.on_end`."""
        raise AssertionError

    def broken(self, error: PenstockError) -> None:
        """End the client's begun stream with an error."""
        raise AssertionError

    def _break(self, error: PenstockError) -> None:
        if self.connection is not None:
            self.connection.abort()
        self.on_failure(error)


def _seconds(value: bytes) -> float | None:
    """A Retry-After in seconds; the date form, which engines do not use, counts as none."""
    try:
        return max(0.0, float(value))
    except ValueError:
        return None
