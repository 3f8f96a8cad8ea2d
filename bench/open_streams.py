#!/usr/bin/env python3
"""Open many streamed responses and keep them open until standard input ends.

    open_streams.py URL --body FILE --streams 10000 [--rate 1000]

Prints a line of JSON when all have started or failed, and another at the end.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop
from load import build_request

START_TIMEOUT = 120.0


@dataclass(slots=True)
class Tally:
    """Numbers of streams that started, were refused or lost; `all_settled` is set when none is pending."""

    total: int
    all_settled: asyncio.Event
    started: int = 0
    refused: int = 0
    lost: int = 0

    def check_settled(self) -> None:
        """Set `all_settled` if every stream has started or failed."""
        if self.started + self.refused + self.lost >= self.total:
            self.all_settled.set()


class Stream(asyncio.Protocol):
    """One stream, small because there are many. It has started when body bytes follow a head with status 200."""

    __slots__ = ("head", "is_started", "request", "tally", "transport")

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.request = request
        self.tally = tally
        self.head = b""
        self.is_started = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.is_started:
            return
        self.head += data
        head, end, body = self.head.partition(b"\r\n\r\n")
        if not end or (not body and head.startswith(b"HTTP/1.1 200")):
            return
        self.is_started, self.head = True, b""
        if head.startswith(b"HTTP/1.1 200"):
            self.tally.started += 1
        else:
            self.tally.refused += 1
        self.tally.check_settled()

    def connection_lost(self, exc: Exception | None) -> None:
        self.tally.lost += 1
        self.tally.check_settled()


async def open_streams(options: argparse.Namespace) -> None:
    """Open the streams, report, wait for the end of standard input, report, close."""
    host, port, request = build_request(options.url, options.body.read_bytes().strip())
    loop = asyncio.get_running_loop()
    tally = Tally(options.streams, asyncio.Event())
    start = time.perf_counter()
    streams: list[Stream] = []
    for number in range(options.streams):
        if (delay := start + number / options.rate - time.perf_counter()) > 0:
            await asyncio.sleep(delay)
        try:
            _, stream = await loop.create_connection(lambda: Stream(request, tally), host, port)
            streams.append(stream)
        except OSError:
            tally.refused += 1
            tally.check_settled()
    try:
        await asyncio.wait_for(tally.all_settled.wait(), START_TIMEOUT)
    finally:
        print(json.dumps({"started": tally.started, "seconds": round(time.perf_counter() - start, 1)}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"lost": tally.lost}), flush=True)
    for stream in streams:
        stream.transport.abort()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the request's JSON")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--rate", type=float, default=1000.0, help="streams opened a second (default 1000)")
    uvloop.run(open_streams(parser.parse_args()))


if __name__ == "__main__":
    main()
