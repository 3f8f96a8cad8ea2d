"""One client connection, between a transport in memory and a pipeline that answers at once."""

import asyncio
import re
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from penstock import dialects
from penstock.http1.limits import MAX_HEAD_BYTES
from penstock.serving.context import ServingContext
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol
from penstock.serving.routes import build_route_table

MAX_BODY = 1_000_000


class MemoryTransport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class EchoPipeline:
    """Answers each call at once with its own body."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def run_call(self, client: Any, endpoint: object, body: bytes, content_type: bytes) -> None:
        self.bodies.append(body)
        client.send_response(200, b"text/plain", b"", body)


class Connection:
    """A connection of a gateway whose pipeline echoes."""

    def __init__(self) -> None:
        self.pipeline = EchoPipeline()
        context = ServingContext(self.pipeline, build_route_table(dialects.load()), OriginPolicy(), MAX_BODY)  # type: ignore[arg-type]
        protocol_class = GatewayProtocol.for_context(context)
        config = uvicorn.Config(None, http=protocol_class, log_config=None, interface="asgi3")  # type: ignore[arg-type]
        config.loaded, config.loaded_app, config.ws_protocol_class = True, None, None
        self.protocol = protocol_class(config, ServerState(), {})
        self.transport = MemoryTransport()
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", self.transport.written)]


@pytest.fixture
async def connection() -> Connection:
    return Connection()


def request(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(
        ["POST /v1/chat/completions HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *headers]
    )
    return f"{head}\r\n\r\n".encode() + body


async def test_each_request_gets_its_own_response(connection):
    for body in (b"one", b"two", b"three"):
        connection.protocol.data_received(request(body))

    assert connection.pipeline.bodies == [b"one", b"two", b"three"]
    assert connection.statuses == [200, 200, 200]


async def test_a_repeated_head_is_not_parsed_again(connection):
    for body in (b"one", b"two"):
        connection.protocol.data_received(request(body))
    connection.protocol.parser = None

    connection.protocol.data_received(request(b"three"))

    assert connection.pipeline.bodies[-1] == b"three"


async def test_a_body_over_the_limit_is_rejected_and_later_bytes_are_ignored(connection):
    connection.protocol.data_received(request(b"x" * (MAX_BODY + 1)))
    connection.protocol.data_received(request(b"again"))

    assert connection.statuses == [413]
    assert connection.pipeline.bodies == []
    assert not connection.transport.closed, "the client may still be sending"


async def test_an_invalid_head_over_the_limit_gets_one_response(connection):
    connection.protocol.data_received(b"POST / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD_BYTES - 100))
    connection.protocol.data_received(b"a" * MAX_HEAD_BYTES)
    connection.protocol.data_received(b"a" * 1000 + b"\r\n\0: y\r\n\r\n")

    assert connection.statuses == [400]


async def test_requests_received_together_are_answered_in_order(connection):
    connection.protocol.data_received(request(b"one") + request(b"two", "x-request-id: mine"))

    first, second = connection.transport.written.split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"one")
    assert second.endswith(b"two")
    assert b"x-request-id: mine\r\n" in second


async def test_a_request_that_is_being_received_is_reported_to_the_sweep(connection):
    complete = request(b"0123456789")
    assert connection.protocol.incomplete_request() is None

    connection.protocol.data_received(complete[:20])
    assert connection.protocol.incomplete_request() == ("head", 20)

    connection.protocol.data_received(complete[20:-4])
    assert connection.protocol.incomplete_request() == (connection.protocol.cycle, 6)

    connection.protocol.data_received(complete[-4:])
    assert connection.protocol.incomplete_request() is None
    await asyncio.sleep(0)
