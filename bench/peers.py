#!/usr/bin/env python3
"""Installs other gateways to compare with, each pinned and in a virtual environment of its own under .engines/peers.

    peers.py [NAME ...]

What cannot be installed here is named with the reason, and left out of comparisons.
"""

import argparse
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".engines" / "peers"
VERSION_OF = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway from the Python package index; `requirement` pins `package`."""

    name: str
    package: str
    requirement: str

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def program(self, name: str) -> Path:
        """A command that the package installed."""
        return self.python.with_name(name)

    def version(self) -> str | None:
        """The installed version; None where it is not installed."""
        if not self.python.exists():
            return None
        asked = subprocess.run([self.python, "-c", VERSION_OF, self.package], capture_output=True, text=True)
        return asked.stdout.strip() or None

    def install(self) -> str | None:
        """Install it if it is not; returns why that failed, or None."""
        if self.version() == self.requirement.partition("==")[2]:
            return None
        try:
            venv.create(FOLDER / self.name, with_pip=True, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no virtual environment: {error}"
        pip = (self.python, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check")
        done = subprocess.run([*pip, self.requirement], capture_output=True, text=True)
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        return said[-1].strip() if done.returncode else None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("vllm-router", "vllm-router", "vllm-router==0.1.17"),
        Peer("sglang-router", "sglang-router", "sglang-router==0.3.2"),
        Peer("litellm", "litellm", "litellm[proxy]==1.106.2"),
    )
}


def main() -> int:
    """Install those named, or all; exit code 1 when one could not be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; none: all")
    names = parser.parse_args().names or list(PEERS)
    if unknown := sorted(set(names) - set(PEERS)):
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    failed = 0
    for name in names:
        reason = PEERS[name].install()
        failed += reason is not None
        print(f"{name}: {f'not installed: {reason}' if reason else PEERS[name].version()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
