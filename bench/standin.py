#!/usr/bin/env python3
"""A model server that computes nothing, so that whatever a load test sees beyond it is the gateway's doing.

    standin.py [--addresses 2]

It has one model, `m`, and speaks OpenAI's wire (as vLLM does) and Ollama's at once. It listens on free ports of
127.0.0.1 and prints their base URLs on one line when it is ready.

A call that is not streamed gets a fixed answer. A streamed one gets `max_tokens` (Ollama: `num_predict`) tokens, `seed`
milliseconds apart, then what the wire ends with. `GET /streams` tells how many streams are open.
"""

import argparse
import asyncio
import json
import re
from collections import deque
from typing import Any, ClassVar, cast

import httptools
import uvloop

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


def compact(value: object) -> bytes:
    """As servers write JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def reply(value: object, kind: str = "application/json") -> bytes:
    """A whole response with a known length."""
    body = value if isinstance(value, bytes) else compact(value)
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind.encode(), len(body), body)


def head(kind: str) -> bytes:
    """The head of a streamed response."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind.encode()


def piece(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire:
    """The bytes of one way to speak: a whole answer, and a stream's head, token and end."""

    def __init__(self, whole: object, kind: str, token: bytes, last: list[bytes], *, streams: bool) -> None:
        self.whole = reply(whole)
        self.head = head(kind)
        self.token = piece(token)
        self.end = b"".join(piece(data) for data in last) + b"0\r\n\r\n"
        self.streams = streams
        """Whether it streams when the request does not say."""


def openai_wire() -> Wire:
    """Chat completions."""
    said: dict[str, Any] = {"id": "chatcmpl-0", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    chunk = said | {"object": "chat.completion.chunk"}

    def event(**fields: object) -> bytes:
        return b"data: " + compact(chunk | fields) + b"\n\n"

    token = event(choices=[{"index": 0, "delta": {"content": TOKEN}, "finish_reason": None}])
    finish = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    last = [finish, event(choices=[], usage=USAGE), b"data: [DONE]\n\n"]
    return Wire(said | {"choices": [choice], "usage": USAGE}, "text/event-stream", token, last, streams=False)


def ollama_wire(generate: bool) -> Wire:
    """`/api/chat`, or `/api/generate`."""
    said = {"model": "m", "created_at": "2025-06-01T12:00:00.000000000Z"}

    def text(words: str) -> dict[str, object]:
        return {"response": words} if generate else {"message": {"role": "assistant", "content": words}}

    token = compact(said | text(TOKEN) | {"done": False}) + b"\n"
    last = [compact(said | text("") | DONE) + b"\n"]
    return Wire(said | text(TEXT) | DONE, "application/x-ndjson", token, last, streams=True)


def listings() -> dict[bytes, bytes]:
    """What a gateway may look at before it sends anything."""
    details = {"format": "gguf", "family": "llama", "parameter_size": "1.2B", "quantization_level": "Q4_0"}
    model = {"name": "m", "model": "m", "size": 1_000_000_000, "digest": "0" * 64, "details": details}
    tag = model | {"modified_at": "2025-06-01T12:00:00Z"}
    loaded = model | {"size_vram": 1_000_000_000, "expires_at": "2099-01-01T00:00:00Z"}
    listed = {"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "vllm", "max_model_len": 8192}
    shown = {"details": details, "capabilities": ["completion"], "model_info": {"llama.context_length": 8192}}
    return {
        b"/": reply(b"Ollama is running", "text/plain"),
        b"/health": reply(b"", "text/plain"),
        b"/metrics": reply(b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n", "text/plain"),
        b"/version": reply({"version": "0.0.0"}),
        b"/v1/models": reply({"object": "list", "data": [listed]}),
        b"/api/version": reply({"version": "0.0.0"}),
        b"/api/tags": reply({"models": [tag]}),
        b"/api/ps": reply({"models": [loaded]}),
        b"/api/show": reply(shown),
    }


class Connection(asyncio.Protocol):
    """Answers one client, request by request."""

    answers: ClassVar[dict[bytes, bytes]] = listings()
    wires: ClassVar[dict[bytes, Wire]] = {
        b"/v1/chat/completions": openai_wire(),
        b"/api/chat": ollama_wire(generate=False),
        b"/api/generate": ollama_wire(generate=True),
    }
    streaming: ClassVar[set["Connection"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[tuple[bytes, bytes]] = deque()
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
            self.waiting.append((path, self.body))
        else:
            self.answer(path, self.body)

    def answer(self, path: bytes, body: bytes) -> None:
        """Write the whole answer, or begin to stream it."""
        wire = self.wires.get(path)
        if wire is None:
            if path == b"/streams":
                self.transport.write(reply({"open": len(self.streaming)}))
                return
            unknown = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(self.answers.get(path, unknown))
            return
        asked = STREAM.search(body)
        if not (asked[1] == b"true" if asked else wire.streams):
            self.transport.write(wire.whole)
            return
        count, gap = COUNT.search(body), GAP.search(body)
        self.wire = wire
        self.left = int(count[1]) if count else 50
        self.gap = int(gap[1]) / 1000 if gap else 0.0
        self.streaming.add(self)
        self.transport.write(wire.head)
        self.tick()

    def tick(self) -> None:
        """One token, or the end."""
        if self.left:
            self.left -= 1
            self.transport.write(self.wire.token)
            self.timer = self.loop.call_later(self.gap, self.tick)
            return
        self.timer = None
        self.streaming.discard(self)
        self.transport.write(self.wire.end)
        if self.waiting:
            self.answer(*self.waiting.popleft())


async def serve(addresses: int) -> None:
    """Listen until the process is ended."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Connection, "127.0.0.1", 0, backlog=8192) for _ in range(addresses)]
    print(*(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--addresses", type=int, default=2, help="ports to listen on (default 2)")
    uvloop.run(serve(parser.parse_args().addresses))


if __name__ == "__main__":
    main()
