"""A connection to a model server without a socket, and a sink that records what it receives."""

from penstock.domain.errors import PenstockError
from penstock.gateway.upstream.transport.connection import Connection
from penstock.gateway.upstream.transport.response_sink import Headers


class FakeTransport:
    """Records what is written, and whether it is closed or paused."""

    def __init__(self) -> None:
        self.written = b""
        self.state = "open"
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.state != "open"


class RecordingSink:
    """Records the head, the body and the end; fails if anything comes after the end."""

    def __init__(self, *, raw: bool = False) -> None:
        self.status = 0
        self.headers: Headers = {}
        self.parts: list[bytes] = []
        self.framed = b""
        self.raw = raw
        self.ended: str | PenstockError = ""
        self.unsent = 0
        self.connection: Connection | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.ended
        assert not self.status, "a second head"
        self.status, self.headers = status, dict(headers)
        if self.raw and self.connection is not None and self.connection.supports_raw:
            self.connection.raw_writer = self._record_framed

    def _record_framed(self, data: bytes) -> None:
        assert not self.ended
        self.framed += data

    def on_body(self, data: bytes) -> None:
        assert not self.ended
        assert self.status
        self.parts.append(data)

    def on_end(self, is_delimited: bool) -> None:
        assert not self.ended, "a second end"
        self.ended = "delimited" if is_delimited else "closed"

    def on_failure(self, error: PenstockError) -> None:
        assert not self.ended, "a second end"
        self.ended = error

    def unsent_bytes(self) -> int:
        return self.unsent

    def has_progressed(self) -> bool:
        return True

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)


class ConnectionBench:
    """A connection under test; `released` are the flags that its owner received."""

    def __init__(self) -> None:
        self.released: list[bool] = []
        self.connection = Connection("http://engine", lambda _, reusable: self.released.append(reusable))
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def send(self, sink: RecordingSink, *, now: float = 0.0, first: float = 10.0, idle: float = 5.0) -> RecordingSink:
        sink.connection = self.connection
        self.connection.send_request(b"GET / HTTP/1.1\r\n\r\n", sink, now + first, idle)
        return sink

    def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.transport.state == "open" and piece:
                self.connection.data_received(piece)

    def lose_connection(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)
