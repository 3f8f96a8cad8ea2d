#!/usr/bin/env python3
"""Starts gateways in turn in front of a stand-in engine, measures them, and prints a table.

    run.py [--rounds 3] [--seconds 6] [--only nginx,penstock] [--peers] [--no-save]

The table is also appended to RESULTS.md. Every gateway has its turn in every round and the median counts, so that a
busy moment of the machine hits one round of one gateway. What cannot run here is named with the reason and left out.
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
from measure import Figures, measure
from process import Trouble, raise_descriptor_limit


def chosen(only: str, peers: bool) -> dict[str, Gateway]:
    """The gateways asked for, those that are installed; raises Trouble for a name that there is not."""
    known = GATEWAYS | COMPARED
    names = [name.strip() for name in only.split(",") if name.strip()] or [*GATEWAYS, *(COMPARED if peers else ())]
    if unknown := [name for name in names if name not in known]:
        raise Trouble(f"no such gateway: {', '.join(unknown)}; there are {', '.join(known)}")
    found = {}
    for name in names:
        if known[name].version() is None:
            print(f"{name}: skipped: not installed ({known[name].advice})", flush=True)
        else:
            found[name] = known[name]
    return found


def rounds(gateways: Mapping[str, Gateway], count: int, seconds: float) -> dict[str, list[Figures]]:
    """Measure every gateway in every round; one that fails is left out from then on."""
    measured: dict[str, list[Figures]] = {name: [] for name in gateways}
    failed: set[str] = set()
    for number in range(1, count + 1):
        for name, gateway in gateways.items():
            if name in failed:
                continue
            begin = time.perf_counter()
            try:
                figures = measure(gateway, seconds)
            except Trouble as trouble:
                print(f"round {number}: {name}: left out: {trouble}", flush=True)
                failed.add(name)
                continue
            measured[name].append(figures)
            print(
                f"round {number}: {name}: {figures.request_us:.1f} µs a request, {figures.chunk_us:.2f} a chunk, "
                f"{figures.per_second:,.0f}/s, took {time.perf_counter() - begin:.0f} s",
                flush=True,
            )
    return measured


def versions(gateways: Mapping[str, Gateway]) -> str:
    """Of what was measured, and of what a call runs on."""
    said = {gateway.name.split(",")[0].split(" ")[0]: gateway.version() for gateway in gateways.values()}
    python = f"Python {sys.version.split()[0]}"
    libraries = (f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "httptools", "msgspec"))
    return ", ".join([*(f"{name} {number}" for name, number in said.items()), python, *libraries])


def main() -> int:
    """Read the options and measure; exit code 1 when nothing could be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each gateway (default 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each of the three loads (default 6)")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {', '.join(GATEWAYS | COMPARED)}")
    parser.add_argument("--peers", action="store_true", help="other gateways too, where bench/peers.py installed them")
    parser.add_argument("--no-save", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's figures, to look into")
    options = parser.parse_args()
    raise_descriptor_limit()
    machine = report.machine()
    try:
        gateways = chosen(options.only, options.peers)
        measured = rounds(gateways, options.rounds, options.seconds)
    except Trouble as trouble:
        print(f"run.py: {trouble}", file=sys.stderr)
        return 1
    if options.json:
        figures = {name: [asdict(one) for one in several] for name, several in measured.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    titled = {gateways[name].name: figures for name, figures in measured.items() if figures}
    if not titled:
        return 1
    text = report.section(
        "gateways compared",
        (machine, versions(gateways), f"median of {options.rounds} rounds, loads of {options.seconds:g} s"),
        report.comparison(titled, measured.get(REFERENCE, [])),
        report.remarks(titled),
    )
    print(f"\n{text}")
    if not options.no_save:
        report.append(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
