#!/usr/bin/env python3
"""Tells where a call's time goes: in Python by part of the gateway, and in the whole process by library.

    breakdown.py [--seconds 6] [--no-save]

The first table profiles `hotpath.py` (one process, no sockets), then spreads what a call costs unprofiled over the
parts by their shares. A profiler makes small functions look dearer than they are: it is a map and not a scale. The
second samples a real gateway under load with `perf`, where that is installed and allowed: kernel, interpreter, native
libraries.
"""

import argparse
import contextlib
import cProfile
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import hotpath
import report
import uvloop
from gateways import GATEWAYS, penstock_version
from load import Load
from measure import TOKENS, body, first_answer, wrk
from process import Trouble, free_port, raise_descriptor_limit, standin, started

CASES = {
    "OpenAI on vLLM": ("openai", "vllm"),
    "Ollama on Ollama": ("ollama", "ollama"),
    "OpenAI on Ollama": ("openai", "ollama"),
}
PARTS = (
    ("gateway/upstream", "gateway: upstream"),
    ("gateway/routing", "gateway: routing"),
    ("gateway/meter", "gateway: meter"),
    ("gateway/", "gateway: pipeline, catalog"),
    ("serving/", "serving"),
    ("dialects/", "dialects"),
    ("engines/", "engines"),
    ("domain/", "domain"),
)
PARSERS = "HTTP parsers (httptools), both sides"
JSON = "JSON (msgspec)"
OTHERS = "C library, rest"
LIBRARIES = (
    (r"kernel|\[k\]|vdso", "kernel: sockets, TCP, epoll"),
    (r"^loop\.", "uvloop"),
    (r"^(url_)?parser\.", "httptools"),
    (r"^_core\.", "msgspec"),
    (r"python", "Python interpreter"),  # after its extensions, which bear its name
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one call, or one streamed chunk, costs in Python, in microseconds, and how it spreads."""

    total_us: float
    shares: Mapping[str, float]


def python_parts(dialect: str, kind: str, *, stream: bool) -> Parts:
    """Time it unprofiled, then profile it."""
    options = argparse.Namespace(profile=False, dialect=dialect, kind=kind, stream=stream)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        uvloop.run(hotpath.measure(options))
    best = re.search(r"best ([\d.]+)", said.getvalue())
    if best is None:
        raise Trouble(f"hotpath.py said something else than expected: {said.getvalue()}")
    profile = cProfile.Profile()
    with contextlib.redirect_stdout(said):
        profile.runcall(uvloop.run, hotpath.measure(options))
    spent: defaultdict[str, float] = defaultdict(float)
    for part, seconds in attributed(profile):
        spent[part] += seconds
    total = sum(spent.values())
    return Parts(float(best[1]), {part: seconds / total for part, seconds in spent.items()})


def attributed(profile: cProfile.Profile) -> Iterator[tuple[str, float]]:
    """Own time of every function with its part. Time in builtins belongs to who called them."""
    for entry in profile.getstats():
        if not isinstance(entry.code, CodeType) or entry.code.co_filename == hotpath.__file__:
            continue
        part = part_of(entry.code)
        if part is None:
            continue
        yield part, entry.inlinetime
        for called in entry.calls or ():
            if isinstance(called.code, str):
                yield JSON if "msgspec" in called.code else part, called.inlinetime
            elif called.code.co_filename == "<string>":  # made by dataclass
                yield part, called.inlinetime


def part_of(code: CodeType) -> str | None:
    """The part that a function belongs to; None for what no call runs through."""
    _, found, path = code.co_filename.rpartition("/penstock/")
    if not found:
        return None
    if code.co_name == "data_received":  # the parsers' own time shows as their callers'
        return PARSERS
    return next((title for prefix, title in PARTS if path.startswith(prefix)), None)


def python_table() -> str:
    """Microseconds by part, plain and streamed, for each pair of dialect and engine."""
    columns = {}
    for title, (dialect, kind) in CASES.items():
        columns[title] = python_parts(dialect, kind, stream=False)
        columns[f"{title}, a chunk"] = python_parts(dialect, kind, stream=True)
    return drawn("µs in Python", (PARSERS, *(title for _, title in PARTS), JSON), columns)


def drawn(heading: str, parts: Sequence[str], columns: Mapping[str, Parts]) -> str:
    """A table with a row for each part and one for all of them."""
    rows = [["in all", *(f"**{one.total_us:.2f}**" for one in columns.values())]]
    rows += [[part, *(f"{one.total_us * one.shares.get(part, 0):.2f}" for one in columns.values())] for part in parts]
    return report.markdown((heading, *columns), rows)


def live(seconds: float) -> str:
    """Samples of a gateway under load, by library; raises Trouble where there is no perf."""
    if shutil.which("perf") is None:
        raise Trouble("perf is not installed: apt-get install linux-perf")
    columns = {}
    for name in ("penstock", "penstock-ollama", "penstock-translated"):
        for stream in (False, True):
            title = GATEWAYS[name].name.removeprefix("Penstock, ")
            columns[f"{title}{', a chunk' if stream else ''}"] = sampled(name, seconds, stream=stream)
    return drawn("µs of CPU under load", (*(title for _, title in LIBRARIES), OTHERS), columns)


def sampled(name: str, seconds: float, *, stream: bool) -> Parts:
    """Load one gateway under perf."""
    gateway = GATEWAYS[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as place, standin() as engines:
        folder, port = Path(place), free_port()
        url = f"http://127.0.0.1:{port}{gateway.path}"
        (request := folder / "request.json").write_bytes(body(gateway.path, stream=stream))
        plain = folder / "plain.json"
        plain.write_bytes(body(gateway.path, stream=False))
        with started(gateway.start(folder, port, engines), folder) as tree:
            first_answer(url, plain.read_bytes(), tree)
            Load(url, plain, seconds=1.0).run()
            samples = folder / "samples"
            words = ["perf", "record", "-q", "-F", "1999", "-o", str(samples), "-p", str(tree.process.pid)]
            recorder = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            before = tree.cpu()
            try:
                if stream:
                    units = Load(url, request, connections=256, seconds=seconds).run().good * (TOKENS + gateway.events)
                else:
                    units, _, _ = wrk(url, request, seconds)
                spent = tree.cpu() - before
            finally:
                recorder.terminate()
                recorder.wait()
        return Parts(spent / max(1, units) * 1e6, libraries(samples))


def libraries(samples: Path) -> dict[str, float]:
    """Shares by library; raises Trouble where perf could not sample."""
    words = ["perf", "report", "-i", str(samples), "--sort", "dso", "--stdio", "-q"]
    said = subprocess.run(words, capture_output=True, text=True)
    shares: defaultdict[str, float] = defaultdict(float)
    for percent, library in re.findall(r"^\s*([\d.]+)%\s+(\S+)", said.stdout, re.MULTILINE):
        title = next((title for pattern, title in LIBRARIES if re.search(pattern, library)), OTHERS)
        shares[title] += float(percent) / 100
    if not shares:
        raise Trouble(f"perf took no samples: {said.stderr.strip()[-200:] or 'is it allowed?'}")
    return dict(shares)


def main() -> int:
    """Read the options and break down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each sampled load (default 6)")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    raise_descriptor_limit()
    facts = [report.machine(), f"Penstock {penstock_version()}, Python {sys.version.split()[0]}"]
    blocks = ["In Python alone, without sockets (`hotpath.py`):", python_table()]
    try:
        blocks += ["The whole process under load, sampled by `perf`:", live(options.seconds)]
    except Trouble as trouble:
        blocks.append(f"Not sampled under load: {trouble}")
    text = report.section("where the time goes", facts, *blocks)
    print(text)
    if not options.no_save:
        report.append(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
