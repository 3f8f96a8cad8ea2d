"""Writes what was measured: the machine, the versions, a Markdown table, and RESULTS.md."""

import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from measure import Figures

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = """# Results

Appended by the programs of this folder; [README.md](README.md) says what is measured and how. CPU is user and system
time of the gateway's whole process tree. `×` is the ratio to nginx in the same rounds.
"""
HEADINGS = (
    "gateway",
    "CPU µs a request",
    "CPU µs a streamed chunk",
    "first chunk ms, 256 streams, p50 / p99",
    "requests/s, 32 connections",
    "ms at 500 requests/s, p50 / p99",
    "start s",
    "RSS MB, idle → loaded",
)
Rounds = Sequence[Figures]


def machine() -> str:
    """Processor, cores, memory, kernel, and what else keeps the machine busy."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GB, Linux {platform.release()}; "
        f"load average before: {os.getloadavg()[0]:.1f}"
    )


def section(title: str, facts: Iterable[str], *blocks: str) -> str:
    """One entry of RESULTS.md, dated."""
    listed = "\n".join(f"- {fact}" for fact in facts)
    return "\n\n".join([f"## {time.strftime('%Y-%m-%d %H:%M')}: {title}", listed, *blocks])


def append(text: str) -> None:
    """Add an entry to RESULTS.md."""
    before = RESULTS.read_text("utf-8") if RESULTS.exists() else TITLE
    RESULTS.write_text(f"{before.rstrip()}\n\n{text.rstrip()}\n", "utf-8")


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def comparison(measured: Mapping[str, Rounds], reference: Rounds) -> str:
    """The table of gateways: the median over the rounds, and of the rounds' ratios to the reference."""
    return markdown(HEADINGS, [_row(name, rounds, reference) for name, rounds in measured.items() if rounds])


def remarks(measured: Mapping[str, Rounds]) -> str:
    """How far the rounds lay apart, and the answers that were not good."""
    said = []
    for name, rounds in measured.items():
        if len(rounds) > 1:
            spread = " ".join(f"{one.request_us:.1f}/{one.chunk_us:.2f}" for one in rounds)
            said.append(f"- {name}: µs a request/chunk by round {spread}")
        bad: dict[str, int] = {}
        for one in rounds:
            for reason, count in one.bad.items():
                bad[reason] = bad.get(reason, 0) + count
        if bad:
            said.append(f"- {name}: not good: {', '.join(f'{count} {reason}' for reason, count in bad.items())}")
    return "\n".join(said)


def _row(name: str, rounds: Rounds, reference: Rounds) -> list[str]:
    def middle(field: str, digits: int = 1) -> str:
        return f"{median(getattr(one, field) for one in rounds):,.{digits}f}"

    def ratio(field: str) -> str:
        pairs = zip(rounds, reference, strict=False)  # a round that failed ends a gateway's list
        shares = [getattr(one, field) / getattr(other, field) for one, other in pairs if getattr(other, field)]
        return f" ({median(shares):.1f}×)" if shares else ""

    return [
        name,
        middle("request_us") + ratio("request_us"),
        middle("chunk_us", 2) + ratio("chunk_us"),
        f"{middle('first_p50')} / {middle('first_p99')}",
        middle("per_second", 0),
        f"{middle('paced_p50', 2)} / {middle('paced_p99', 2)}",
        middle("start_s", 2),
        f"{middle('idle_mb', 0)} → {middle('loaded_mb', 0)}",
    ]
