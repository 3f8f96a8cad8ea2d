"""Command line of the fuzzer; see scripts/fuzz."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzer import run_cases


def main() -> int:
    """Run the cases and print the report; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description="Send hostile requests and responses through a gateway.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run_cases(Path(folder), options.seed, options.cases, options.first))
    print(f"seed {options.seed}: {options.cases} cases, {dict(sorted(report.statuses.items()))}")
    print(f"slowest {report.slowest:.1f} s, memory grew by {report.growth:.1f} MB")
    for finding in report.findings:
        print(finding)
    return bool(report.findings)


if __name__ == "__main__":
    sys.exit(main())
