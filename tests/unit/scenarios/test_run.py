"""Command that runs the scenarios."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "bench" / "scenarios" / "run.py"


OPTIONS = ("--scenario", "two-gpus", "--policies", "first-come,round-robin", "--seed", "3", "--search", "0")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *words], capture_output=True, text=True, cwd="/", check=False)


def test_a_scenario_prints_a_table_and_saves_nothing_with_no_save() -> None:
    results = RUN.parent / "RESULTS.md"
    before = results.read_bytes() if results.exists() else None
    done = command(*OPTIONS, "--no-save")
    assert done.returncode == 0, done.stderr
    assert "| first come | **" in done.stdout
    assert "| round robin | **" in done.stdout
    assert (results.read_bytes() if results.exists() else None) == before


def test_an_unknown_name_lists_the_known_ones() -> None:
    done = command("--scenario", "mixed-night", "--no-save")
    assert done.returncode != 0
    assert "mixed-day" in done.stderr
