#!/usr/bin/env python3
"""Measure gateways in turn in front of a stand-in model server and print a table.

    run.py [--rounds 3] [--seconds 6] [--only nginx,penstock] [--peers] [--no-save]

The table is also appended to RESULTS.md. Each round measures every gateway once and the median counts, so that a busy
moment of the machine affects one round of one gateway. A gateway that cannot run here is left out with the reason.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import report
from gateways import COMPARED, GATEWAYS, REFERENCE, Gateway
from measure import Figures, measure_gateway
from process import BenchmarkError, raise_descriptor_limit


def choose_gateways(only: str, peers: bool) -> dict[str, Gateway]:
    """Return the installed gateways among those requested. Raises BenchmarkError for an unknown name."""
    known = GATEWAYS | COMPARED
    names = [name.strip() for name in only.split(",") if name.strip()] or [*GATEWAYS, *(COMPARED if peers else ())]
    if unknown := [name for name in names if name not in known]:
        raise BenchmarkError(f"no such gateway: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = {}
    for name in names:
        if known[name].read_version() is None:
            print(f"{name}: skipped: not installed ({known[name].advice})", flush=True)
        else:
            chosen[name] = known[name]
    return chosen


def run_rounds(gateways: Mapping[str, Gateway], count: int, seconds: float) -> dict[str, list[Figures]]:
    """Measure every gateway in every round; one that fails is left out of later rounds."""
    measured: dict[str, list[Figures]] = {name: [] for name in gateways}
    failed: set[str] = set()
    for number in range(1, count + 1):
        for name, gateway in gateways.items():
            if name in failed:
                continue
            start = time.perf_counter()
            try:
                figures = measure_gateway(gateway, seconds)
            except BenchmarkError as error:
                print(f"round {number}: {name}: left out: {error}", flush=True)
                failed.add(name)
                continue
            measured[name].append(figures)
            print(
                f"round {number}: {name}: {figures.request_us:.1f} µs a request, {figures.chunk_us:.2f} a chunk, "
                f"{figures.per_second:,.0f}/s, took {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    return measured


def list_versions(gateways: Mapping[str, Gateway]) -> str:
    """Return the versions of the gateways, Python and the main libraries."""
    versions = {gateway.name.split(",")[0].split(" ")[0]: gateway.read_version() for gateway in gateways.values()}
    python = f"Python {sys.version.split()[0]}"
    libraries = (f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "httptools", "msgspec"))
    return ", ".join([*(f"{name} {number}" for name, number in versions.items()), python, *libraries])


def main() -> int:
    """Run the command; return 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each gateway (default 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each of the three loads (default 6)")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {', '.join(GATEWAYS | COMPARED)}")
    parser.add_argument("--peers", action="store_true", help="other gateways too, where bench/peers.py installed them")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's figures, to look into")
    options = parser.parse_args()
    raise_descriptor_limit()
    machine = report.describe_machine()
    try:
        gateways = choose_gateways(options.only, options.peers)
        measured = run_rounds(gateways, options.rounds, options.seconds)
    except BenchmarkError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        figures = {name: [asdict(one) for one in several] for name, several in measured.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    titled = {gateways[name].name: figures for name, figures in measured.items() if figures}
    if not titled:
        return 1
    text = report.format_section(
        "gateways compared",
        (machine, list_versions(gateways), f"median of {options.rounds} rounds, loads of {options.seconds:g} s"),
        report.format_comparison(titled, measured.get(REFERENCE, [])),
        report.format_remarks(titled),
    )
    print(f"\n{text}")
    if not options.no_save:
        report.append_result(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
