#!/usr/bin/env python3
"""Measure a call's cost in Python alone: the real protocol, pipeline and relay between two in-memory transports.

    hotpath.py [--profile] [--dialect openai|ollama] [--kind vllm|ollama] [--stream]

Without sockets and kernel it is repeatable on a busy machine, where `measure.py` is not; it prints the best of many
rounds. It is for optimizing the gateway, not for comparing gateways.
"""

import argparse
import cProfile
import json
import pstats
import time
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from penstock.app.gateway import Gateway
from penstock.config.settings import ListenSettings, ServerSettings, Settings, StorageSettings
from penstock.domain.fleet import Model, ServerStatus, State
from penstock.gateway.upstream.transport.connection import Connection
from penstock.serving import routes
from penstock.serving.context import ServingContext
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol

CHUNKS = 100
WORDS = "Hello there, how can I help you today? " * 4
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


class MemoryTransport:
    """Transport that discards what is written and calls `answer` for each write."""

    def __init__(self) -> None:
        self.written = 0
        self.answer: Any = None

    def write(self, data: bytes) -> None:
        self.written += len(data)
        if self.answer is not None:
            self.answer()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    abort = close


def build_response(kind: str, stream: bool) -> list[bytes]:
    """Build a model server's response as a list of TCP segments."""
    if kind == "ollama":
        end = {"done": True, "done_reason": "stop", "total_duration": 10**9, "prompt_eval_count": 12, "eval_count": 40}
        line = {"model": "m", "created_at": "2025-01-01T00:00:00Z", "message": {"role": "assistant", "content": WORDS}}
        if not stream:
            body = json.dumps(line | end).encode()
            return [HEAD % (b"application/json", b"content-length: %d\r\n" % len(body)) + body]
        line["message"]["content"] = " token"  # type: ignore[index]
        token, last = json.dumps(line | {"done": False}).encode() + b"\n", json.dumps(line | end).encode() + b"\n"
        head, closing = HEAD % (b"application/x-ndjson", CHUNKED), b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
    else:
        usage = {"usage": {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}}
        base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
        if not stream:
            choice = {"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
            body = json.dumps(base | usage | {"choices": [choice]}).encode()
            return [HEAD % (b"application/json", b"content-length: %d\r\n" % len(body)) + body]
        base["object"] = "chat.completion.chunk"
        delta = {"index": 0, "delta": {"content": " token"}, "finish_reason": None}
        token = b"data: " + json.dumps(base | {"choices": [delta]}).encode() + b"\n\n"
        stop = b"data: " + json.dumps(base | {"choices": [delta | {"finish_reason": "stop"}]}).encode() + b"\n\n"
        done = b"data: [DONE]\n\n"
        head = HEAD % (b"text/event-stream", CHUNKED)
        closing = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(stop), stop, len(done), done)
    return [head, *([b"%x\r\n%b\r\n" % (len(token), token)] * CHUNKS), closing]


def build_request(dialect: str, stream: bool) -> bytes:
    """Build a client's request."""
    body = {"model": "m", "messages": [{"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Explain the Singleton pattern in a few words, please."}],
            "stream": stream}  # fmt: skip
    text = json.dumps(body).encode()
    path = {"openai": "/v1/chat/completions", "ollama": "/api/chat", "anthropic": "/v1/messages"}[dialect]
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:8005\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer x\r\ncontent-length: {len(text)}\r\n\r\n"
    ).encode() + text


async def measure_hot_path(options: argparse.Namespace) -> None:
    """Send one kind of call repeatedly and print its cost."""
    server_settings = ServerSettings("stub", options.kind, ("http://127.0.0.1:9",))
    settings = Settings(StorageSettings(Path()), servers=(server_settings,), server=ListenSettings())
    gateway = Gateway(settings)
    server = gateway.watcher._watched["stub"].server
    gateway.catalog.publish([ServerStatus(server, State.UP, server.url, (Model("m"),))])
    origin_policy = OriginPolicy()
    protocol_class = GatewayProtocol.for_context(
        ServingContext(gateway.pipeline, routes.build_route_table(gateway.dialects), origin_policy, 1 << 25)
    )
    state = ServerState()
    protocol_class.class_context.date_line = b"date: Fri, 20 Nov 2026 00:00:00 GMT\r\n"
    config = uvicorn.Config(None, http=protocol_class, log_config=None, interface="asgi3")  # type: ignore[arg-type]
    config.loaded, config.loaded_app, config.ws_protocol_class = True, None, None
    protocol = protocol_class(config, state, {})
    client = MemoryTransport()
    protocol.connection_made(client)  # type: ignore[arg-type]
    pool = gateway.pools.get(server.url, True)
    engine_side = Connection("http://127.0.0.1:9", pool._on_released)
    upstream = MemoryTransport()
    engine_side.connection_made(upstream)  # type: ignore[arg-type]
    pool._idle.append(engine_side)
    response = build_response(options.kind, options.stream)
    requests = []
    upstream.answer = lambda: requests.append(1)
    request = build_request(options.dialect, options.stream)
    units = CHUNKS if options.stream else 1

    def run_round(count: int) -> float:
        begin = time.process_time()
        for _ in range(count):
            protocol.data_received(request)
            for segment in response:
                engine_side.data_received(segment)
        return (time.process_time() - begin) / count / units * 1e6

    run_round(10)
    assert len(requests) == 10, "no request reached the model server"
    assert client.written > 10 * len(WORDS) or options.stream, "no response was written"
    rounds = sorted(run_round(2000 // units + 20) for _ in range(40))
    print(f"{options.dialect} on {options.kind}{' streamed' if options.stream else ''}: "
          f"best {rounds[0]:.1f}, median {rounds[20]:.1f} µs a {'chunk' if options.stream else 'request'}")  # fmt: skip
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(run_round, 5000 // units + 10)
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    await gateway.stop()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--dialect", default="openai")
    parser.add_argument("--kind", default="vllm")
    parser.add_argument("--stream", action="store_true")
    uvloop.run(measure_hot_path(parser.parse_args()))


if __name__ == "__main__":
    main()
