"""Passing an engine's answer through: client and engine speak the same wire."""

import msgspec

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.request import Operation
from penstock.gateway.upstream.relay.base import Relay

HOLD = 256 * 1024
"""An unstreamed answer is held back until it is whole, so that another server can still take over; up to this size."""
_PLAUSIBLE_SSE = frozenset(b"d:eir\r\n")
_PLAUSIBLE_JSON = frozenset(b"{[ \r\n\t")


class PassThrough(Relay):
    """Client and engine speak the same wire: bytes go on as they are.

    A stream is forwarded with the engine's own chunked framing where the client takes it (nothing is copied or framed
    again); the parser has seen every byte before. The last few pieces are kept, for the usage that they tell.
    """

    __slots__ = ()

    def opened(self, length: int | None) -> None:
        self._length = length
        self._streaming = self.call.stream and (length is None or not self.content_type.startswith(b"application/json"))
        connection = self.connection
        if self._streaming and connection is not None and self.client.accepts_chunked and connection.supports_raw:
            self._raw = True
            connection.raw_writer = self._begin_raw

    def piece(self, data: bytes) -> None:
        if not self._streaming:
            self._gather(data)
            return
        if not self._last:
            self._check(data)
        self.piece_count += 1
        self._second, self._prior, self._last = self._prior, self._last, data
        if self._raw:
            return
        self._pass_lines(data)

    def _pass_lines(self, data: bytes) -> None:
        """Lines go on when they are whole: what breaks off in one can then still end in good order."""
        whole = data.rfind(b"\n") + 1
        if not whole and len(self._held) > HOLD:
            whole = len(data)
        if not whole:
            self._held += data
            return
        lines, self._held = self._held + data[:whole], data[whole:]
        self._pass(lines)

    def _pass(self, data: bytes) -> None:
        if self._open:
            self.client.write(data)
        else:
            self._begin(data)

    def _gather(self, data: bytes) -> None:
        """A piece of an unstreamed answer: held back as long as it is small."""
        if self._open:
            self._second, self._prior, self._last = self._prior, self._last, data
            self.client.write(data)
            return
        self._body.append(data)
        self._size += len(data)
        if self._size > HOLD:
            self._begin(b"".join(self._body))
            self._body.clear()

    def _begin(self, first: bytes) -> None:
        self._open = True
        length = None if self._streaming else self._length
        self.client.start_response(self.content_type, self._head, first, length)

    def _begin_raw(self, data: bytes) -> None:
        """The first framed bytes; they are held until there is some body in them."""
        self._held += data
        if not self._last:
            return
        held, self._held = self._held, b""
        self._open = True
        self.client.start_raw_response(self.content_type, self._head, held)
        if self.connection is not None and self.connection.raw_writer is not None:
            self.connection.raw_writer = self.client.raw_writer

    def _check(self, data: bytes) -> None:
        """Whether a stream begins as its kind does: what is plainly something else may still be had elsewhere."""
        plausible = _PLAUSIBLE_SSE if b"event-stream" in self.content_type else _PLAUSIBLE_JSON
        if data and data[0] not in plausible:
            raise UpstreamGarbage("the engine sent something that is not a stream of answers")

    def closed(self, is_delimited: bool) -> None:
        if not self._streaming and not self._open:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            if body or self.call.operation is not Operation.MANAGE:
                try:
                    self.usage = self.endpoint.parse_usage(body, False)
                except msgspec.DecodeError:
                    raise UpstreamGarbage("the engine's answer is not the JSON that it should be") from None
                if self.usage is None and self.call.operation is Operation.CHAT and body.lstrip()[:1] != b"{":
                    raise UpstreamGarbage("the engine's answer is not the object that it should be")
            self.client.send_response(self.status, self.content_type, self._head, body)
            self.settle(None)
            return
        if not self._open and (self._raw or not self._held):
            raise UpstreamCut("the engine ended its stream without an answer")
        tail = self._second + self._prior + self._last
        marked = is_delimited and self._length is None  # a length may lie, and a closed connection says nothing
        if not marked and self._streaming and not self.endpoint.is_complete(tail):
            raise UpstreamCut("the engine's answer ends in the middle")
        if self._held:
            self._pass(self._held)
        self.usage = self.endpoint.parse_usage(tail, True)
        self.client.finish(framed=self._raw)
        self.settle(None)

    def broken(self, error: PenstockError) -> None:
        client = self.client
        if not self._streaming or (self.connection is not None and self.connection.unaligned):
            client.abort()
            return
        client.keep_alive = False
        client.write(self.endpoint.render_interruption(error))
        client.finish()
