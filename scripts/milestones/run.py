"""Run the measurements of a milestone and print a table; exit code 1 when one is not met.

    python scripts/milestones/run.py [MILESTONE [MEASUREMENT ...]]

A milestone is a module `milestone_<number>.py` here with a TITLE. Each of its functions `measure_<name>` is one
measurement and yields rows; to add one, write such a function.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from rows import Row

HERE = Path(__file__).resolve().parent
PREFIX = "measure_"
MARKS = {True: "ok", False: "NOT MET", None: "not measured"}

Measurement = Callable[[], Iterator[Row]]


def load_milestones() -> dict[str, ModuleType]:
    numbers = sorted(int(path.stem.partition("_")[2]) for path in HERE.glob("milestone_*.py"))
    return {str(number): importlib.import_module(f"milestone_{number}") for number in numbers}


def list_measurements(milestone: ModuleType) -> dict[str, Measurement]:
    """Return the measurements by name, in the order of the file."""
    functions = {name: value for name, value in vars(milestone).items() if name.startswith(PREFIX) and callable(value)}
    return {name.removeprefix(PREFIX): function for name, function in functions.items()}


def print_list(milestones: dict[str, ModuleType]) -> None:
    for number, milestone in milestones.items():
        print(f"{number}  {milestone.TITLE}: {', '.join(list_measurements(milestone))}")


def run_measurements(measurements: dict[str, Measurement]) -> bool:
    """Print each row as it comes; return whether none was missed."""
    print("| what | asked | measured | |\n|---|---|---|---|", flush=True)
    has_missed = False
    for name, measure in measurements.items():
        try:
            for row in measure():
                has_missed |= row.is_met is False
                print(f"| {row.what} | {row.asked} | {row.measured} | {MARKS[row.is_met]} |", flush=True)
        except Exception as error:  # one measurement that breaks must not hide the others
            has_missed = True
            text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
            print(f"| {name} | | {text[:300]} | {MARKS[False]} |", flush=True)
    return not has_missed


def main(arguments: list[str]) -> int:
    milestones = load_milestones()
    if not arguments:
        print_list(milestones)
        return 0
    number, *names = arguments
    if number not in milestones:
        print(f"There is no milestone {number}; there are {', '.join(milestones)}.", file=sys.stderr)
        return 2
    measurements = list_measurements(milestones[number])
    if unknown := [name for name in names if name not in measurements]:
        print(f"Milestone {number} has no {', '.join(unknown)}; it has {', '.join(measurements)}.", file=sys.stderr)
        return 2
    print(f"Milestone {number}: {milestones[number].TITLE}\n")
    return 0 if run_measurements({name: measurements[name] for name in names or measurements}) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
