#!/usr/bin/env python3
"""Opens many streamed answers and keeps them open until its standard input ends.

    hold.py URL --body FILE --streams 10000 [--rate 1000]

Prints a line of JSON when all have begun or failed, and one more at the end.
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
from load import request_bytes

PATIENCE = 120.0


@dataclass(slots=True)
class Tally:
    """How many streams have begun, how many connections were lost, and whether there is nothing to wait for."""

    wanted: int
    settled: asyncio.Event
    begun: int = 0
    refused: int = 0
    lost: int = 0

    def note(self) -> None:
        """One stream more has begun or failed."""
        if self.begun + self.refused + self.lost >= self.wanted:
            self.settled.set()


class Stream(asyncio.Protocol):
    """One stream; small, since there are many. It has begun when bytes came after a head that says 200."""

    __slots__ = ("begun", "head", "request", "tally", "transport")

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.request = request
        self.tally = tally
        self.head = b""
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.begun:
            return
        self.head += data
        head, end, body = self.head.partition(b"\r\n\r\n")
        if not end or (not body and head.startswith(b"HTTP/1.1 200")):
            return
        self.begun, self.head = True, b""
        if head.startswith(b"HTTP/1.1 200"):
            self.tally.begun += 1
        else:
            self.tally.refused += 1
        self.tally.note()

    def connection_lost(self, exc: Exception | None) -> None:
        self.tally.lost += 1
        self.tally.note()


async def hold(options: argparse.Namespace) -> None:
    """Open, tell, wait, close, tell."""
    host, port, request = request_bytes(options.url, options.body.read_bytes().strip())
    loop = asyncio.get_running_loop()
    tally = Tally(options.streams, asyncio.Event())
    begin = time.perf_counter()
    streams: list[Stream] = []
    for number in range(options.streams):
        if (ahead := begin + number / options.rate - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        try:
            _, stream = await loop.create_connection(lambda: Stream(request, tally), host, port)
            streams.append(stream)
        except OSError:
            tally.refused += 1
            tally.note()
    try:
        await asyncio.wait_for(tally.settled.wait(), PATIENCE)
    finally:
        print(json.dumps({"begun": tally.begun, "seconds": round(time.perf_counter() - begin, 1)}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"lost": tally.lost}), flush=True)
    for stream in streams:
        stream.transport.abort()


def main() -> None:
    """Read the options and hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the request's JSON")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--rate", type=float, default=1000.0, help="streams opened a second (default 1000)")
    uvloop.run(hold(parser.parse_args()))


if __name__ == "__main__":
    main()
