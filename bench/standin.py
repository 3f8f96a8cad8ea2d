#!/usr/bin/env python3
"""Stand-in model server that computes nothing, so that a load test measures the gateway alone.

    standin.py [--addresses 2]

It has one model, `m`, and speaks the APIs of OpenAI (like vLLM) and Ollama. It listens on free ports of 127.0.0.1 and
prints their base URLs on one line when it is ready.

An unstreamed request gets a fixed response. A streamed one gets `max_tokens` (Ollama: `num_predict`) tokens, `seed`
milliseconds apart, then the end of the stream. `GET /streams` returns the number of open streams.
"""

import argparse
import asyncio
import json
import re
from collections import deque
from typing import Any, ClassVar, cast

import httptools
import uvloop
from process import grow_descriptor_table

TOKEN = " token"
TEXT = "A fixed answer of the usual length, which nobody had to think about. " * 2
COUNT = re.compile(rb'"(?:max_tokens|max_completion_tokens|num_predict)":\s*(\d+)')
GAP = re.compile(rb'"seed":\s*(\d+)')
STREAM = re.compile(rb'"stream":\s*(true|false)')
USAGE = {"prompt_tokens": 24, "completion_tokens": 100, "total_tokens": 124}
DONE = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_200_000_000,
    "load_duration": 2_000_000,
    "prompt_eval_count": 24,
    "prompt_eval_duration": 80_000_000,
    "eval_count": 100,
    "eval_duration": 1_100_000_000,
}


def encode_json(value: object) -> bytes:
    """Encode JSON without whitespace, like real servers."""
    return json.dumps(value, separators=(",", ":")).encode()


def build_response(value: object, kind: str = "application/json") -> bytes:
    """Build a response with a Content-Length."""
    body = value if isinstance(value, bytes) else encode_json(value)
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind.encode(), len(body), body)


def build_stream_head(kind: str) -> bytes:
    """Build the head of a streamed response."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind.encode()


def encode_chunk(data: bytes) -> bytes:
    """Encode one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class WireFormat:
    """Bytes of one wire format: a response, and the head, token and end of a stream."""

    def __init__(self, response: object, kind: str, token: bytes, last: list[bytes], *, streams: bool) -> None:
        self.response = build_response(response)
        self.head = build_stream_head(kind)
        self.token = encode_chunk(token)
        self.end = b"".join(encode_chunk(data) for data in last) + b"0\r\n\r\n"
        self.streams_by_default = streams
        """True: requests without `stream` are streamed."""


def build_openai_wire() -> WireFormat:
    """Build the wire format of chat completions."""
    base: dict[str, Any] = {"id": "chatcmpl-0", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    chunk = base | {"object": "chat.completion.chunk"}

    def event(**fields: object) -> bytes:
        return b"data: " + encode_json(chunk | fields) + b"\n\n"

    token = event(choices=[{"index": 0, "delta": {"content": TOKEN}, "finish_reason": None}])
    finish = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    last = [finish, event(choices=[], usage=USAGE), b"data: [DONE]\n\n"]
    return WireFormat(base | {"choices": [choice], "usage": USAGE}, "text/event-stream", token, last, streams=False)


def build_ollama_wire(generate: bool) -> WireFormat:
    """Build the wire format of `/api/chat` or `/api/generate`."""
    base = {"model": "m", "created_at": "2025-06-01T12:00:00.000000000Z"}

    def text(words: str) -> dict[str, object]:
        return {"response": words} if generate else {"message": {"role": "assistant", "content": words}}

    token = encode_json(base | text(TOKEN) | {"done": False}) + b"\n"
    last = [encode_json(base | text("") | DONE) + b"\n"]
    return WireFormat(base | text(TEXT) | DONE, "application/x-ndjson", token, last, streams=True)


def build_listings() -> dict[bytes, bytes]:
    """Build the responses to probes, by path."""
    details = {"format": "gguf", "family": "llama", "parameter_size": "1.2B", "quantization_level": "Q4_0"}
    model = {"name": "m", "model": "m", "size": 1_000_000_000, "digest": "0" * 64, "details": details}
    tag = model | {"modified_at": "2025-06-01T12:00:00Z"}
    loaded = model | {"size_vram": 1_000_000_000, "expires_at": "2099-01-01T00:00:00Z"}
    listed = {"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "vllm", "max_model_len": 8192}
    details_response = {
        "details": details,
        "capabilities": ["completion"],
        "model_info": {"llama.context_length": 8192},
    }
    return {
        b"/": build_response(b"Ollama is running", "text/plain"),
        b"/health": build_response(b"", "text/plain"),
        b"/metrics": build_response(b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n", "text/plain"),
        b"/version": build_response({"version": "0.0.0"}),
        b"/v1/models": build_response({"object": "list", "data": [listed]}),
        b"/api/version": build_response({"version": "0.0.0"}),
        b"/api/tags": build_response({"models": [tag]}),
        b"/api/ps": build_response({"models": [loaded]}),
        b"/api/show": build_response(details_response),
    }


class Connection(asyncio.Protocol):
    """Server connection, which handles one request after another."""

    responses: ClassVar[dict[bytes, bytes]] = build_listings()
    wires: ClassVar[dict[bytes, WireFormat]] = {
        b"/v1/chat/completions": build_openai_wire(),
        b"/api/chat": build_ollama_wire(generate=False),
        b"/api/generate": build_ollama_wire(generate=True),
    }
    streaming: ClassVar[set["Connection"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.queued_requests: deque[tuple[bytes, bytes]] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.streaming.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        path = self.url.partition(b"?")[0]
        if self in self.streaming:
            self.queued_requests.append((path, self.body))
        else:
            self.respond(path, self.body)

    def respond(self, path: bytes, body: bytes) -> None:
        """Write the response or start to stream it."""
        wire = self.wires.get(path)
        if wire is None:
            if path == b"/streams":
                self.transport.write(build_response({"open": len(self.streaming)}))
                return
            unknown = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(self.responses.get(path, unknown))
            return
        stream = STREAM.search(body)
        if not (stream[1] == b"true" if stream else wire.streams_by_default):
            self.transport.write(wire.response)
            return
        count, gap = COUNT.search(body), GAP.search(body)
        self.wire = wire
        self.tokens_left = int(count[1]) if count else 50
        self.gap = int(gap[1]) / 1000 if gap else 0.0
        self.streaming.add(self)
        self.transport.write(wire.head)
        self.send_token()

    def send_token(self) -> None:
        """Send one token or the end of the stream."""
        if self.tokens_left:
            self.tokens_left -= 1
            self.transport.write(self.wire.token)
            self.timer = self.loop.call_later(self.gap, self.send_token)
            return
        self.timer = None
        self.streaming.discard(self)
        self.transport.write(self.wire.end)
        if self.queued_requests:
            self.respond(*self.queued_requests.popleft())


async def run_server(addresses: int) -> None:
    """Listen until the process ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Connection, "127.0.0.1", 0, backlog=8192) for _ in range(addresses)]
    print(*(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--addresses", type=int, default=2, help="ports to listen on (default 2)")
    grow_descriptor_table()
    uvloop.run(run_server(parser.parse_args().addresses))


if __name__ == "__main__":
    main()
