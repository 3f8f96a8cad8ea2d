"""Pass a response through unchanged: client and server speak the same wire."""

import contextlib

import msgspec

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.request import Operation
from penstock.engines.base import Engine
from penstock.gateway.upstream.relay.base import Relay

MAX_BUFFERED = 256 * 1024
"""Bytes of an unstreamed response that are held back until it is complete, so that another server can still be used."""
_STATUSES_WITH_BODY = frozenset({200, 201, 202})
"""Statuses of a server that its client gets; all other successes become 200."""
MAX_START = 64 * 1024
"""Bytes of a stream that are held back until its first content, e.g. pings or an error."""
_SMALL_PIECE = 16
"""Bytes: smaller pieces are kept together, so that the last pieces contain the end of the stream."""
_PAGE_STARTS = frozenset(b"<\x00")
_JSON_STARTS = frozenset(b"{[ \r\n\t\xef")


class PassThroughRelay(Relay):
    """Relay that forwards bytes as they are.

    A stream keeps the server's own chunked framing where the client accepts it: nothing is copied or framed again, and
    the parser has accepted every byte before. Its beginning is held back until there is content: until then another
    server can still be used. The last three pieces are kept, for the usage that they report and the end of the stream.

    `engine`, set by its creator, reads the beginning.
    """

    __slots__ = (
        "_buffer", "_buffered_size", "_content_length", "_is_direct", "_is_held", "_is_raw", "_is_streaming", "_last",
        "_last_but_one", "_last_but_two", "_partial_line", "_start_reader", "engine",
    )  # fmt: skip

    engine: Engine

    # Its own attributes are set here, since none is needed before: a constructor would cost every call 0.2 µs.
    def _start(self, content_length: bytes | None) -> None:
        self._content_length = content_length
        if self.call.stream and (content_length is None or not self.content_type.startswith(b"application/json")):
            self._is_streaming = True
            self._start_forwarding()
            self._is_held, self._is_direct = True, False
            self._start_reader = self.engine.create_wire_reader(self.call)
            connection = self.connection
            if connection is not None and self.client.accepts_chunked and connection.supports_raw:
                self._is_raw = True
                connection.raw_writer = self._start_raw
                connection.check_end = self._check_end
        else:
            self._is_streaming = self._is_direct = False
            self._buffer: list[bytes] = []
            self._buffered_size = 0

    def _start_forwarding(self) -> None:
        """Prepare for pieces that are sent as they come."""
        self._is_raw = self._is_held = False
        self._last = self._last_but_one = self._last_but_two = self._partial_line = b""

    def _relay_data(self, data: bytes) -> None:
        if not self._is_direct and not self._relay_indirectly(data):
            return
        self.piece_count += 1
        self._keep_tail(data)
        if not self._is_raw:
            self._write_complete_lines(data)

    def _relay_indirectly(self, data: bytes) -> bool:
        """Buffer a piece of an unstreamed response, or of a stream without content; False when that is all."""
        if not self._is_streaming:
            self._buffer_data(data)
            return False
        if self._find_content(data):
            self._is_direct = True
            return True
        self._keep_tail(data)
        if not self._is_raw:
            self._partial_line += data
        return False

    def _find_content(self, data: bytes) -> bool:
        """Return whether the stream has content by now, so that it can go to the client.

        Raises the error that it reports instead, or UpstreamGarbage.
        """
        if not self._last:
            self._check_start(data)
        reader = self._start_reader
        if reader is None or any(chunk.has_content for chunk in reader.feed(data)):
            self._is_held = False
        elif len(self._partial_line) > MAX_START:
            self._is_held = False  # whatever it is, it is too long to wait for its end
        return not self._is_held

    def _keep_tail(self, data: bytes) -> None:
        if len(data) < _SMALL_PIECE and len(self._last) < MAX_START:
            self._last += data
            return
        self._last_but_two, self._last_but_one, self._last = self._last_but_one, self._last, data

    def _write_complete_lines(self, data: bytes) -> None:
        """Write complete lines only, so that an interrupted stream can still be ended with an error event."""
        end = data.rfind(b"\n") + 1
        if not end and len(self._partial_line) > MAX_BUFFERED:
            end = len(data)
        if not end:
            self._partial_line += data
            return
        lines, self._partial_line = self._partial_line + data[:end], data[end:]
        self._write(lines)

    def _write(self, data: bytes) -> None:
        if self._is_started:
            self.client.write(data)
        else:
            self._start_client(data)

    def _buffer_data(self, data: bytes) -> None:
        """Hold back a piece of an unstreamed response while it is small."""
        if self._is_started:
            self._keep_tail(data)
            self.client.write(data)
            return
        self._buffer.append(data)
        self._buffered_size += len(data)
        if self._buffered_size > MAX_BUFFERED:
            self._start_forwarding()
            self._start_client(b"".join(self._buffer))
            self._buffer.clear()

    def _start_client(self, first: bytes) -> None:
        self._is_started = True
        length = None if self._is_streaming or self._content_length is None else int(self._content_length)
        self.client.start_response(self.content_type, self._provenance_headers, first, length)

    def _start_raw(self, data: bytes) -> None:
        """Start the client's response once the framed bytes contain some body; later ones go to it directly."""
        self._partial_line += data
        if self._is_held:
            return
        first, self._partial_line = self._partial_line, b""
        self._is_started = True
        self.client.start_raw_response(self.content_type, self._provenance_headers, first)
        if self.connection is not None and self.connection.raw_writer is not None:
            self.connection.raw_writer = self.client.raw_writer

    def _check_start(self, data: bytes) -> None:
        """Reject a web page, and lines that are no JSON, while another server can still be used."""
        is_events = b"event-stream" in self.content_type
        if data and (data[0] in _PAGE_STARTS if is_events else data[0] not in _JSON_STARTS):
            raise UpstreamGarbage("The server sent something that is not a stream of events or JSON lines.")

    def _complete(self, is_delimited: bool) -> None:
        if not self._is_streaming and not self._is_started:
            self._send_buffered()
            return
        if self._is_held and self._start_reader is not None and any(c.has_content for c in self._start_reader.close()):
            self._is_held = False
            if self._is_raw:
                self._start_raw(b"")
        if not self._is_started and (self._is_held or self._is_raw or not self._partial_line):
            raise UpstreamCut("The server ended its stream without a response.")
        tail = self._last_but_two + self._last_but_one + self._last
        if self._is_streaming and not self._has_end(tail, is_delimited):
            raise UpstreamCut("The server's response ended in the middle.")
        if self._partial_line:
            self._write(self._partial_line)
        self.usage = self.endpoint.parse_usage(tail, True)
        self.client.finish(framed=self._is_raw)
        self.settle(None)

    def _check_end(self) -> PenstockError | None:
        """Return the error for a raw stream without its end; the bytes that end it have not been sent yet."""
        tail = self._last_but_two + self._last_but_one + self._last
        if self._is_held or self._has_end(tail, is_delimited=True):
            return None
        return UpstreamCut("The server's response ended in the middle.")

    def _has_end(self, tail: bytes, is_delimited: bool) -> bool:
        """Return whether a stream has the end of its wire.

        The framing alone proves little: a proxy or a server whose model has died ends its chunks properly, a stated
        length may be wrong, and a closed connection may be cut. Only where the engine ends some responses early, or
        the wire's end is unknown, the framing decides.
        """
        if self.endpoint.is_complete(tail):
            return True
        may_end_here = self._start_reader is None or self.engine.may_stop_early
        return may_end_here and is_delimited and self._content_length is None

    def _send_buffered(self) -> None:
        body = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        if body or self.call.operation is not Operation.MANAGE:
            try:
                self.usage = self.endpoint.parse_usage(body, False)
            except msgspec.DecodeError:
                raise UpstreamGarbage("The server's response is not the JSON that was expected.") from None
            if self.usage is None and self.call.operation is Operation.CHAT and body.lstrip()[:1] != b"{":
                raise UpstreamGarbage("The server's response is not the JSON object that was expected.")
            if self.usage is None and b'"error"' in body[:MAX_START]:
                self._raise_reported_error(body)
        self.client.send_response(
            self.status if self.status in _STATUSES_WITH_BODY else 200,
            self.content_type,
            self._provenance_headers,
            body,
        )
        self.settle(None)

    def _raise_reported_error(self, body: bytes) -> None:
        """Raise the error in a body that came with status 200."""
        reader = self.engine.create_wire_reader(self.call)
        if reader is None:
            return
        with contextlib.suppress(UpstreamCut, UpstreamGarbage):
            list(reader.feed(body))
            list(reader.close())

    def _send_error(self, error: PenstockError) -> None:
        client = self.client
        if not self._is_streaming or (self.connection is not None and self.connection.unaligned):
            client.abort()
            return
        client.keep_alive = False
        client.write(self.endpoint.render_interruption(error))
        client.finish()
