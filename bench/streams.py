#!/usr/bin/env python3
"""Keeps thousands of mostly idle streams open through one Penstock: what each costs, and what a new request waits.

    streams.py [--streams 10000] [--gap 30] [--seconds 15] [--only penstock,penstock-translated] [--no-save]

A stream takes two file descriptors in the gateway, so their limit (`ulimit -Hn`) bounds the number of streams.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import report
from gateways import GATEWAYS, Gateway, penstock_version
from load import Latency, Load
from measure import ask, body, first_answer
from process import HERE, Tree, Trouble, free_port, raise_descriptor_limit, standin, started

SPARE = 150
"""Descriptors that the gateway needs beside those of streams."""
ENDLESS = 1_000_000
CHOICES = [name for name in GATEWAYS if name.startswith("penstock")]
HEADINGS = ("", "without streams", "beside them")


@dataclass(frozen=True, slots=True)
class State:
    """Of the gateway at one moment. `cpu` is per cent of one core with no new request, `plain` a whole new request,
    `streamed` the first chunk of a new stream, each on a connection of its own."""

    resident: float
    descriptors: int
    cpu: float
    plain: Latency
    streamed: Latency


@dataclass(frozen=True, slots=True)
class Held:
    """What was found."""

    streams: int
    opened_s: float
    lost: int
    before: State
    beside: State
    generating: int
    """Streams that the engine still generates after all their clients went away."""
    descriptors_after: int
    resident_after: float


def look(tree: Tree, url: str, folder: Path, seconds: float) -> State:
    """Watch it for a while, then send it new requests."""
    cpu, begin = tree.cpu(), time.perf_counter()
    time.sleep(seconds)
    share = (tree.cpu() - cpu) / (time.perf_counter() - begin) * 100
    resident, descriptors = tree.resident(), tree.descriptors()
    results = []
    for name, rate in (("plain.json", 100.0), ("short.json", 50.0)):
        loaded = Load(url, folder / name, connections=32, seconds=seconds, rate=rate, fresh=True).run()
        if loaded.bad:
            raise Trouble(f"new requests failed: {loaded.bad}")
        results.append(loaded)
    return State(resident, descriptors, share, results[0].whole, results[1].first)


@contextlib.contextmanager
def holding(url: str, request: Path, streams: int) -> Iterator[dict[str, float]]:
    """Open streams from another process, close them on leaving; gives `begun`, `seconds`, and at the end `lost`."""
    words: list[str | Path] = [sys.executable, HERE / "hold.py", url, "--body", request, "--streams", str(streams)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            facts: dict[str, float] = json.loads(process.stdout.readline() or "{}")
            if facts.get("begun") != streams:
                raise Trouble(f"of {streams} streams {facts.get('begun', 0):.0f} began")
            yield facts
            process.stdin.close()
            facts |= json.loads(process.stdout.readline())
        finally:
            process.kill()


def hold(gateway: Gateway, streams: int, gap: float, seconds: float) -> Held:
    """Measure one gateway. Raises Trouble."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, standin() as engines:
        folder, port = Path(name), free_port()
        url = f"http://127.0.0.1:{port}{gateway.path}"
        (plain := folder / "plain.json").write_bytes(body(gateway.path, stream=False))
        (folder / "short.json").write_bytes(body(gateway.path, stream=True, tokens=10, gap_ms=10))
        (endless := folder / "endless.json").write_bytes(
            body(gateway.path, stream=True, tokens=ENDLESS, gap_ms=round(gap * 1000))
        )
        with started(gateway.start(folder, port, engines), folder, gateway.environment) as tree:
            first_answer(url, plain.read_bytes(), tree)
            for warming in ("plain.json", "short.json"):
                Load(url, folder / warming, seconds=1.0).run()
            before = look(tree, url, folder, seconds)
            with holding(url, endless, streams) as facts:
                beside = look(tree, url, folder, seconds)
            still = settle(engines)
            return Held(
                streams=streams,
                opened_s=facts["seconds"],
                lost=int(facts["lost"]),
                before=before,
                beside=beside,
                generating=still,
                descriptors_after=tree.descriptors(),
                resident_after=tree.resident(),
            )


def settle(engines: tuple[str, ...], patience: float = 10.0) -> int:
    """Wait for the engine to hear that nobody listens any more; returns how many streams it generates all the same."""
    deadline = time.monotonic() + patience
    while (streams := int(json.loads(ask(f"{engines[0]}/streams", b""))["open"])) and time.monotonic() < deadline:
        time.sleep(0.1)
    return streams


def table(held: Held) -> str:
    """Both states side by side."""
    rows = [
        ("RSS MB", *(f"{one.resident:.0f}" for one in (held.before, held.beside))),
        ("memory a stream, KB", "", f"{(held.beside.resident - held.before.resident) * 1024 / held.streams:.1f}"),
        ("open descriptors", *(f"{one.descriptors:,}" for one in (held.before, held.beside))),
        ("CPU % of a core, no new request", *(f"{one.cpu:.1f}" for one in (held.before, held.beside))),
        ("new request ms, p50 / p99", *(_pair(one.plain) for one in (held.before, held.beside))),
        ("new stream's first chunk ms, p50 / p99", *(_pair(one.streamed) for one in (held.before, held.beside))),
    ]
    return report.markdown(HEADINGS, rows)


def _pair(latency: Latency) -> str:
    return f"{latency.p50:.2f} / {latency.p99:.2f}"


def story(gateway: Gateway, held: Held) -> str:
    """A gateway's table and what is to be said beside it."""
    return (
        f"{gateway.name}: {held.streams:,} streams, opened in {held.opened_s:.1f} s, {held.lost} lost meanwhile; "
        f"when their clients had gone, {held.generating} were still generated, "
        f"{held.descriptors_after} descriptors open, RSS {held.resident_after:.0f} MB\n\n{table(held)}"
    )


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--gap", type=float, default=30.0, help="seconds between two tokens of a stream (default 30)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each look (default 15)")
    parser.add_argument("--only", default="penstock,penstock-translated", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    limit = raise_descriptor_limit()
    streams = min(options.streams, (limit - SPARE) // 2)
    bound = f"descriptor limit {limit}: {streams:,} of {options.streams:,} streams wanted"
    facts = [report.machine(), f"Penstock {penstock_version()}, Python {sys.version.split()[0]}", bound]
    facts.append(f"a token every {options.gap:g} s in each stream, looks of {options.seconds:g} s")
    stories = []
    for name in options.only.split(","):
        if name not in CHOICES:
            parser.error(f"no such gateway: {name}; there are {', '.join(CHOICES)}")
        try:
            stories.append(story(GATEWAYS[name], hold(GATEWAYS[name], streams, options.gap, options.seconds)))
        except Trouble as trouble:
            print(f"{name}: {trouble}", file=sys.stderr)
    if not stories:
        return 1
    text = report.section("open, mostly idle streams", facts, *stories)
    print(text)
    if not options.no_save:
        report.append(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
