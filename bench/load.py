#!/usr/bin/env python3
"""Sends one request again and again and tells how long its answers took, as one line of JSON.

    load.py URL --body FILE [--connections 32] [--seconds 6] [--rate N] [--fresh]

Closed loop: each connection sends its next request when its answer has ended. With --rate it is open: requests begin at
that many a second whatever the answers do, and their time counts from when they should have begun. With --fresh every
request has a connection of its own. Only addresses of this machine are called.
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
from process import Trouble

PATIENCE = 120.0
LONGEST = 300.0
ENDINGS = (b"[DONE]", b'"done":true')


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float = 0.0
    p99: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Of measured times in seconds."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)]
        return cls(*(round(value * 1000, 3) for value in at))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a load. `good` answers were 200 and came whole; `bad` counts the others by what was wrong."""

    good: int
    bad: dict[str, int]
    per_second: float
    first: Latency
    """From the request to the first byte of the answer's body."""
    whole: Latency
    """From the request to the answer's end."""
    gap: Latency
    """Between two pieces of a streamed answer."""

    @classmethod
    def parse(cls, text: str) -> "Loaded":
        """From the line that the program prints."""
        data = json.loads(text)
        return cls(**data | {name: Latency(**data[name]) for name in ("first", "whole", "gap")})


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, and how. Times are seconds, `rate` is requests a second in all; 0: as fast as answers come."""

    url: str
    body: Path
    connections: int = 32
    seconds: float = 6.0
    rate: float = 0.0
    fresh: bool = False

    def run(self) -> Loaded:
        """Do it in a process of its own. Raises Trouble when that fails."""
        command = [sys.executable, __file__, self.url, "--body", self.body, "--connections", self.connections]
        command += ["--seconds", self.seconds, "--rate", self.rate, *(["--fresh"] if self.fresh else [])]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f"the load generator failed: {done.stderr.strip()[-300:]}")
        return Loaded.parse(done.stdout)


def request_bytes(url: str, body: bytes) -> tuple[str, int, bytes]:
    """Where to connect and what to send; refuses addresses beyond this machine."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"only addresses of this machine are called, and {host} is none")
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer sk-bench\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return host, port, head.encode() + body


class Client(asyncio.Protocol):
    """One connection; `call` sends the request and waits for the end of its answer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[str] | None = None
        self.first = self.last = 0.0
        self.tail = b""
        self.gaps: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._tell("lost")

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._tell("not HTTP")

    def on_body(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.first:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.last = now
        self.tail = data if len(data) > 500 else self.tail[-500:] + data

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        whole = not self.gaps or any(ending in self.tail for ending in ENDINGS)
        self._tell(f"status {status}" if status != 200 else "good" if whole else "cut")

    async def call(self, request: bytes) -> str:
        """Returns `good`, or what was wrong."""
        assert self.transport is not None
        self.parser = httptools.HttpResponseParser(self)
        self.first, self.tail, self.gaps = 0.0, b"", []
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self.done, PATIENCE)

    def _tell(self, result: str) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(result)


@dataclass(slots=True)
class Run:
    """The load while it runs."""

    load: Load
    results: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    begun: int = 0
    start: float = 0.0

    async def all(self) -> Loaded:
        """Every connection until the time is over."""
        target = request_bytes(self.load.url, self.load.body.read_bytes().strip())
        self.start = time.perf_counter()
        await asyncio.gather(*(self._work(*target) for _ in range(self.load.connections)))
        spent = time.perf_counter() - self.start
        good = self.results.pop("good", 0)
        times = (Latency.of(self.first), Latency.of(self.whole), Latency.of(self.gaps))
        return Loaded(good, dict(self.results), round(good / spent, 1), *times)

    async def _work(self, host: str, port: int, request: bytes) -> None:
        client: Client | None = None
        stop = self.start + min(self.load.seconds, LONGEST)
        while (begin := self._planned()) < stop:
            if begin > (now := time.perf_counter()):
                await asyncio.sleep(begin - now)
            try:
                if client is None or client.transport is None:
                    _, client = await asyncio.get_running_loop().create_connection(Client, host, port)
                result = await client.call(request)
            except (OSError, TimeoutError) as error:
                result = type(error).__name__
            self.results[result] += 1
            if result == "good" and client is not None:
                self.first.append(client.first - begin)
                self.whole.append(time.perf_counter() - begin)
                self.gaps += client.gaps
            if client is not None and client.transport is not None and (result != "good" or self.load.fresh):
                client.transport.abort()
                client = None

    def _planned(self) -> float:
        """When the next request should begin."""
        self.begun += 1
        return self.start + self.begun / self.load.rate if self.load.rate else time.perf_counter()


def main() -> None:
    """Read the options, send, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the request's JSON")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--fresh", action="store_true")
    loaded = uvloop.run(Run(Load(**vars(parser.parse_args()))).all())
    print(json.dumps(asdict(loaded)))


if __name__ == "__main__":
    main()
