#!/usr/bin/env python3
"""Measure thousands of open, mostly idle streams through one gateway: their cost and the latency of new requests.

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
from gateways import GATEWAYS, Gateway, read_penstock_version
from load import Latency, Load
from measure import build_body, send_request, wait_for_response
from process import HERE, BenchmarkError, ProcessTree, find_free_port, raise_descriptor_limit, run_process, run_standin

SPARE_DESCRIPTORS = 150
"""File descriptors of the gateway that are not for streams."""
ENDLESS_TOKENS = 1_000_000
CHOICES = [name for name in GATEWAYS if name.startswith("penstock")]
HEADINGS = ("", "without streams", "beside them")


@dataclass(frozen=True, slots=True)
class GatewayState:
    """Load of the gateway and latency of new requests, each on a connection of its own.

    `cpu_percent` is of one core, without new requests. `plain_latency` is of an unstreamed request,
    `first_chunk_latency` of a stream.
    """

    resident_mb: float
    descriptors: int
    cpu_percent: float
    plain_latency: Latency
    first_chunk_latency: Latency


@dataclass(frozen=True, slots=True)
class StreamResult:
    """Measurements of one gateway, without and with open streams."""

    streams: int
    opened_s: float
    lost: int
    without_streams: GatewayState
    with_streams: GatewayState
    still_generated: int
    """Streams that the model server still generates after all clients have disconnected."""
    descriptors_after: int
    resident_after: float


def measure_state(tree: ProcessTree, url: str, folder: Path, seconds: float) -> GatewayState:
    """Measure the idle load for `seconds`, then send new requests."""
    cpu, begin = tree.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    share = (tree.cpu_seconds() - cpu) / (time.perf_counter() - begin) * 100
    resident, descriptors = tree.resident_mb(), tree.count_descriptors()
    results = []
    for name, rate in (("plain.json", 100.0), ("short.json", 50.0)):
        loaded = Load(url, folder / name, connections=32, seconds=seconds, rate=rate, fresh=True).run()
        if loaded.bad:
            raise BenchmarkError(f"new requests failed: {loaded.bad}")
        results.append(loaded)
    return GatewayState(resident, descriptors, share, results[0].total, results[1].first)


@contextlib.contextmanager
def hold_streams(url: str, request: Path, streams: int) -> Iterator[dict[str, float]]:
    """Open streams in another process and close them on exit; yield `started`, `seconds` and, at the end, `lost`."""
    command: list[str | Path] = [
        sys.executable,
        HERE / "open_streams.py",
        url,
        "--body",
        request,
        "--streams",
        str(streams),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            facts: dict[str, float] = json.loads(process.stdout.readline() or "{}")
            if facts.get("started") != streams:
                raise BenchmarkError(f"of {streams} streams {facts.get('started', 0):.0f} started")
            yield facts
            process.stdin.close()
            facts |= json.loads(process.stdout.readline())
        finally:
            process.kill()


def measure_streams(gateway: Gateway, streams: int, gap: float, seconds: float) -> StreamResult:
    """Measure one gateway. Raises BenchmarkError."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, run_standin() as engines:
        folder, port = Path(name), find_free_port()
        url = f"http://127.0.0.1:{port}{gateway.path}"
        (plain := folder / "plain.json").write_bytes(build_body(gateway.path, stream=False))
        (folder / "short.json").write_bytes(build_body(gateway.path, stream=True, tokens=10, gap_ms=10))
        (endless := folder / "endless.json").write_bytes(
            build_body(gateway.path, stream=True, tokens=ENDLESS_TOKENS, gap_ms=round(gap * 1000))
        )
        with run_process(gateway.build_command(folder, port, engines), folder, gateway.environment) as tree:
            wait_for_response(url, plain.read_bytes(), tree)
            for warm_up in ("plain.json", "short.json"):
                Load(url, folder / warm_up, seconds=1.0).run()
            before = measure_state(tree, url, folder, seconds)
            with hold_streams(url, endless, streams) as facts:
                beside = measure_state(tree, url, folder, seconds)
            still_generated = wait_for_abort(engines)
            return StreamResult(
                streams=streams,
                opened_s=facts["seconds"],
                lost=int(facts["lost"]),
                without_streams=before,
                with_streams=beside,
                still_generated=still_generated,
                descriptors_after=tree.count_descriptors(),
                resident_after=tree.resident_mb(),
            )


def wait_for_abort(engines: tuple[str, ...], timeout: float = 10.0) -> int:
    """Wait until the model server has noticed the disconnects; return how many streams it still generates."""
    deadline = time.monotonic() + timeout
    while (
        streams := int(json.loads(send_request(f"{engines[0]}/streams", b""))["open"])
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    return streams


def format_table(result: StreamResult) -> str:
    """Format both states side by side."""
    rows = [
        ("RSS MB", *(f"{state.resident_mb:.0f}" for state in (result.without_streams, result.with_streams))),
        (
            "memory a stream, KB",
            "",
            f"{(result.with_streams.resident_mb - result.without_streams.resident_mb) * 1024 / result.streams:.1f}",
        ),
        ("open descriptors", *(f"{state.descriptors:,}" for state in (result.without_streams, result.with_streams))),
        (
            "CPU % of a core, no new request",
            *(f"{state.cpu_percent:.1f}" for state in (result.without_streams, result.with_streams)),
        ),
        (
            "new request ms, p50 / p99",
            *(_format_latency(state.plain_latency) for state in (result.without_streams, result.with_streams)),
        ),
        (
            "new stream's first chunk ms, p50 / p99",
            *(_format_latency(state.first_chunk_latency) for state in (result.without_streams, result.with_streams)),
        ),
    ]
    return report.format_table(HEADINGS, rows)


def _format_latency(latency: Latency) -> str:
    return f"{latency.p50:.2f} / {latency.p99:.2f}"


def format_result(gateway: Gateway, result: StreamResult) -> str:
    """Format the table and the remarks of one gateway."""
    return (
        f"{gateway.name}: {result.streams:,} streams, opened in {result.opened_s:.1f} s, {result.lost} lost meanwhile; "
        f"when their clients had gone, {result.still_generated} were still generated, "
        f"{result.descriptors_after} descriptors open, RSS {result.resident_after:.0f} MB\n\n{format_table(result)}"
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--gap", type=float, default=30.0, help="seconds between two tokens of a stream (default 30)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement (default 15)")
    parser.add_argument("--only", default="penstock,penstock-translated", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    limit = raise_descriptor_limit()
    streams = min(options.streams, (limit - SPARE_DESCRIPTORS) // 2)
    bound = f"descriptor limit {limit}: {streams:,} of {options.streams:,} streams wanted"
    facts = [report.describe_machine(), f"Penstock {read_penstock_version()}, Python {sys.version.split()[0]}", bound]
    facts.append(f"a token every {options.gap:g} s in each stream, measured for {options.seconds:g} s")
    stories = []
    for name in options.only.split(","):
        if name not in CHOICES:
            parser.error(f"no such gateway: {name}; there are {', '.join(CHOICES)}")
        try:
            stories.append(
                format_result(GATEWAYS[name], measure_streams(GATEWAYS[name], streams, options.gap, options.seconds))
            )
        except BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
    if not stories:
        return 1
    text = report.format_section("open, mostly idle streams", facts, *stories)
    print(text)
    if not options.no_save:
        report.append_result(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
