"""Lock files as the set-up installs them, and the metadata of what they name."""

import functools
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = Path(__file__).parents[2]
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS: Final = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "win32": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
_ENTRY: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+?)(?: ; (.*?))? \\\n((?:    --hash=sha256:\w+(?: \\\n|\n|$))+)", re.MULTILINE
)

Target = dict[str, str]  # the variables of a marker


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in a lock, and where it applies."""

    name: str
    version: Version
    marker: Marker | None
    hashes: int

    def applies_to(self, target: Target) -> bool:
        return self.marker is None or self.marker.evaluate({**target, "extra": ""})


def read_lock(text: str) -> list[Entry]:
    """Return all entries. Raises ValueError when a line is neither a comment nor part of an entry with hashes."""
    rest = re.sub(r"^#.*\n", "", _ENTRY.sub("", text), flags=re.MULTILINE).strip()
    if rest:
        raise ValueError(f"not an entry with hashes: {rest.splitlines()[0]}")
    return [
        Entry(
            canonicalize_name(found[1]),
            Version(found[2]),
            Marker(found[3]) if found[3] else None,
            found[4].count("--hash="),
        )
        for found in _ENTRY.finditer(text)
    ]


def replace_hashes(text: str, hashes: dict[tuple[str, str], str]) -> str:
    """Return the lock with one other hash for each name and version."""

    def replace(found: re.Match[str]) -> str:
        marker = f" ; {found[3]}" if found[3] else ""
        return f"{found[1]}=={found[2]}{marker} \\\n    --hash=sha256:{hashes[found[1], found[2]]}\n"

    return _ENTRY.sub(replace, text)


def list_targets() -> Iterator[tuple[str, Target]]:
    """Yield a title and the marker variables of each Python on each system."""
    for python, (system, variables) in product(PYTHONS, SYSTEMS.items()):
        more = {"platform_python_implementation": "CPython", "implementation_name": "cpython"}
        version = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_version": f"{python}.0",
        }
        yield f"Python {python} on {system}", {**variables, **more, **version}


@functools.cache
def read_requirements(name: str) -> list[Requirement]:
    """Return what an installed package requires; nothing for one that is not for this system."""
    try:
        return [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return []


def find_unlocked(wanted: list[Requirement], entries: list[Entry], target: Target) -> tuple[list[str], set[Entry]]:
    """Follow requirements, with their extras, through a lock; return those it does not satisfy, and what was used."""
    locked = {entry.name: entry for entry in entries if entry.applies_to(target)}
    missing, used, seen = [], set(), set()
    waiting = [(requirement, "") for requirement in wanted]
    while waiting:
        requirement, extra = waiting.pop()
        key = (str(requirement), extra)
        if key in seen or (requirement.marker and not requirement.marker.evaluate({**target, "extra": extra})):
            continue
        seen.add(key)
        entry = locked.get(canonicalize_name(requirement.name))
        if entry is None or not requirement.specifier.contains(entry.version, prereleases=True):
            missing.append(str(requirement))
            continue
        used.add(entry)
        waiting += [(one, chosen) for one in read_requirements(entry.name) for chosen in ("", *requirement.extras)]
    return missing, used
