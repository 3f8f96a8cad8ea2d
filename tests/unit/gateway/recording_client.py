"""A client that records the response it is given."""

from collections.abc import Callable

from penstock.domain.errors import PenstockError
from penstock.gateway.client import Source
from tests.support.raw_engine import END, chunk, remove_chunk_framing


class RecordingClient:
    """Records status, content type and body. Raw pieces are joined by their framing.

    `ended` is "complete" after `send_response`, "finished" after `finish`, "aborted" after `abort`, else empty.
    """

    upstream: Source | None = None
    is_disconnected = False
    keep_alive = True
    routing_hints = None
    request_id = "r-1"
    id = b"r-1"
    unsent_bytes = 0
    first_byte_at = 0.0

    def __init__(self, *, accepts_chunked: bool = True) -> None:
        self.accepts_chunked = accepts_chunked
        self.response_started = False
        self.status = 0
        self.content_type = b""
        self.body = b""
        self.ended = ""
        self._raw = b""

    def send_response(self, status: int, content_type: bytes, headers: bytes, body: bytes) -> None:
        assert not self.response_started
        self.response_started, self.status, self.content_type = True, status, content_type
        self.body, self.ended = body, "complete"

    def start_response(self, content_type: bytes, headers: bytes, first: bytes, length: int | None = None) -> None:
        assert not self.response_started
        self.response_started, self.status, self.content_type, self.body = True, 200, content_type, first

    def start_raw_response(self, content_type: bytes, headers: bytes, first: bytes) -> None:
        self.start_response(content_type, headers, b"")
        self._raw = first

    def write(self, data: bytes) -> None:
        assert self.response_started
        assert not self.ended
        if self._raw:
            self._raw += chunk(data)
        else:
            self.body += data

    def _write_raw(self, data: bytes) -> None:
        assert not self.ended
        self._raw += data

    @property
    def raw_writer(self) -> Callable[[bytes], None]:
        return self._write_raw

    def finish(self, framed: bool = False) -> None:
        assert not self.ended
        self.ended = "finished"
        if self._raw:
            assert self._raw.endswith(END) or not framed
            self.body = remove_chunk_framing(self._raw if framed else self._raw + END)

    def abort(self) -> None:
        self.ended = "aborted"

    def send_error(self, error: PenstockError) -> None:
        raise AssertionError("a relay does not report errors before the first byte")
