#!/usr/bin/env python3
"""Load generator: send one request repeatedly and print latencies as one line of JSON.

    load.py URL --body FILE [--connections 32] [--seconds 6] [--rate N] [--fresh]

Closed loop: each connection sends its next request when the response has ended. With --rate it is an open loop:
requests start at that rate regardless of responses, and latency counts from the planned start. With --fresh each
request uses a new connection. Only loopback addresses are allowed.
"""

import argparse
import asyncio
import ipaddress
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop
from process import BenchmarkError, grow_descriptor_table

RESPONSE_TIMEOUT = 120.0
MAX_SECONDS = 300.0
ENDINGS = (b"[DONE]", b'"done":true')


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def from_seconds(cls, seconds: Sequence[float]) -> "Latency":
        """Compute the percentiles of times in seconds."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)]
        return cls(*(round(value * 1000, 3) for value in at))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Result of a load. `good` responses were complete, with status 200; `bad` counts the others by reason."""

    good: int
    bad: dict[str, int]
    per_second: float
    first: Latency
    """From the request to the first byte of the body."""
    total: Latency
    """From the request to the end of the response."""
    gap: Latency
    """Between two chunks of a stream."""

    @classmethod
    def parse(cls, text: str) -> "LoadResult":
        """Parse the line that this program prints."""
        data = json.loads(text)
        return cls(**data | {name: Latency(**data[name]) for name in ("first", "total", "gap")})


@dataclass(frozen=True, slots=True)
class Load:
    """Request to send, and how. Times are seconds; `rate` is requests per second in total, 0: closed loop."""

    url: str
    body: Path
    connections: int = 32
    seconds: float = 6.0
    rate: float = 0.0
    fresh: bool = False

    def run(self) -> LoadResult:
        """Run the load in a process of its own. Raises BenchmarkError."""
        command = [sys.executable, __file__, self.url, "--body", self.body, "--connections", self.connections]
        command += ["--seconds", self.seconds, "--rate", self.rate, *(["--fresh"] if self.fresh else [])]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"the load generator failed: {done.stderr.strip()[-300:]}")
        return LoadResult.parse(done.stdout)


def build_request(url: str, body: bytes) -> tuple[str, int, bytes]:
    """Return host, port and the bytes of the request. Exits if the address is not loopback."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"{host} is not a loopback address; only this machine may be loaded")
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer sk-bench\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return host, port, head.encode() + body


class Client(asyncio.Protocol):
    """Client connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[str] | None = None
        self.first_at = self.last_at = 0.0
        self.tail = b""
        self.gaps: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._finish("lost")

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish("not HTTP")

    def on_body(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.first_at:
            self.first_at = now
        else:
            self.gaps.append(now - self.last_at)
        self.last_at = now
        self.tail = data if len(data) > 500 else self.tail[-500:] + data

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        is_complete = not self.gaps or any(ending in self.tail for ending in ENDINGS)
        self._finish(f"status {status}" if status != 200 else "good" if is_complete else "cut")

    async def send(self, request: bytes) -> str:
        """Send the request and wait for the response; return `good` or the reason of the failure."""
        assert self.transport is not None
        self.parser = httptools.HttpResponseParser(self)
        self.first_at, self.tail, self.gaps = 0.0, b"", []
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self.done, RESPONSE_TIMEOUT)

    def _finish(self, result: str) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(result)


@dataclass(slots=True)
class LoadRun:
    """A load while it runs."""

    load: Load
    results: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    started: int = 0
    start: float = 0.0

    async def run(self) -> LoadResult:
        """Run all connections until the time is over."""
        target = build_request(self.load.url, self.load.body.read_bytes().strip())
        self.start = time.perf_counter()
        await asyncio.gather(*(self._run_connection(*target) for _ in range(self.load.connections)))
        elapsed = time.perf_counter() - self.start
        good = self.results.pop("good", 0)
        times = (Latency.from_seconds(self.first), Latency.from_seconds(self.total), Latency.from_seconds(self.gaps))
        return LoadResult(good, dict(self.results), round(good / elapsed, 1), *times)

    async def _run_connection(self, host: str, port: int, request: bytes) -> None:
        client: Client | None = None
        stop = self.start + min(self.load.seconds, MAX_SECONDS)
        while (start := self._next_start()) < stop:
            if start > (now := time.perf_counter()):
                await asyncio.sleep(start - now)
            try:
                if client is None or client.transport is None:
                    _, client = await asyncio.get_running_loop().create_connection(Client, host, port)
                result = await client.send(request)
            except (OSError, TimeoutError) as error:
                result = type(error).__name__
            self.results[result] += 1
            if result == "good" and client is not None:
                self.first.append(client.first_at - start)
                self.total.append(time.perf_counter() - start)
                self.gaps += client.gaps
            if client is not None and client.transport is not None and (result != "good" or self.load.fresh):
                client.transport.abort()
                client = None

    def _next_start(self) -> float:
        """Return the planned start of the next request."""
        self.started += 1
        return self.start + self.started / self.load.rate if self.load.rate else time.perf_counter()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the request's JSON")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--fresh", action="store_true")
    grow_descriptor_table()
    loaded = uvloop.run(LoadRun(Load(**vars(parser.parse_args()))).run())
    print(json.dumps(asdict(loaded)))


if __name__ == "__main__":
    main()
