"""Reports: the machine, Markdown tables and RESULTS.md."""

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


def describe_machine() -> str:
    """Describe processor, cores, memory, kernel and the present load of the machine."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GB, Linux {platform.release()}; "
        f"load average before: {os.getloadavg()[0]:.1f}"
    )


def format_section(title: str, facts: Iterable[str], *blocks: str) -> str:
    """Format one dated entry of RESULTS.md."""
    items = "\n".join(f"- {fact}" for fact in facts)
    return "\n\n".join([f"## {time.strftime('%Y-%m-%d %H:%M')}: {title}", items, *blocks])


def append_result(text: str) -> None:
    """Append an entry to RESULTS.md."""
    before = RESULTS.read_text("utf-8") if RESULTS.exists() else TITLE
    RESULTS.write_text(f"{before.rstrip()}\n\n{text.rstrip()}\n", "utf-8")


def format_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table, whose columns but the first are numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def format_comparison(measured: Mapping[str, Rounds], reference: Rounds) -> str:
    """Format the table of gateways: medians over the rounds, and of the ratios to the reference per round."""
    return format_table(HEADINGS, [_format_row(name, rounds, reference) for name, rounds in measured.items() if rounds])


def format_remarks(measured: Mapping[str, Rounds]) -> str:
    """Format the spread between rounds, and failed responses."""
    lines = []
    for name, rounds in measured.items():
        if len(rounds) > 1:
            spread = " ".join(f"{one.request_us:.1f}/{one.chunk_us:.2f}" for one in rounds)
            lines.append(f"- {name}: µs a request/chunk by round {spread}")
        bad: dict[str, int] = {}
        for one in rounds:
            for reason, count in one.bad.items():
                bad[reason] = bad.get(reason, 0) + count
        if bad:
            lines.append(f"- {name}: not good: {', '.join(f'{count} {reason}' for reason, count in bad.items())}")
    return "\n".join(lines)


def _format_row(name: str, rounds: Rounds, reference: Rounds) -> list[str]:
    def format_median(field: str, digits: int = 1) -> str:
        return f"{median(getattr(one, field) for one in rounds):,.{digits}f}"

    def format_ratio(field: str) -> str:
        pairs = zip(rounds, reference, strict=False)  # a round that failed ends a gateway's list
        shares = [getattr(one, field) / getattr(other, field) for one, other in pairs if getattr(other, field)]
        return f" ({median(shares):.1f}×)" if shares else ""

    return [
        name,
        format_median("request_us") + format_ratio("request_us"),
        format_median("chunk_us", 2) + format_ratio("chunk_us"),
        f"{format_median('first_p50')} / {format_median('first_p99')}",
        format_median("per_second", 0),
        f"{format_median('paced_p50', 2)} / {format_median('paced_p99', 2)}",
        format_median("start_s", 2),
        f"{format_median('idle_mb', 0)} → {format_median('loaded_mb', 0)}",
    ]
