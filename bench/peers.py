#!/usr/bin/env python3
"""Install other gateways to compare with, pinned, each in its own virtual environment under .engines/peers.

    peers.py [NAME ...]

Prints the reason for each that cannot be installed; comparisons leave it out.
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
    """Gateway from the Python package index; `requirement` pins `package`."""

    name: str
    package: str
    requirement: str

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def find_program(self, name: str) -> Path:
        """Return the path of a command of the package."""
        return self.python.with_name(name)

    def read_version(self) -> str | None:
        """Return the installed version, None if not installed."""
        if not self.python.exists():
            return None
        process = subprocess.run([self.python, "-c", VERSION_OF, self.package], capture_output=True, text=True)
        return process.stdout.strip() or None

    def install(self) -> str | None:
        """Install the package if needed; return the reason of a failure, else None."""
        if self.read_version() == self.requirement.partition("==")[2]:
            return None
        try:
            venv.create(FOLDER / self.name, with_pip=True, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no virtual environment: {error}"
        pip = (self.python, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check")
        done = subprocess.run([*pip, self.requirement], capture_output=True, text=True)
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        return lines[-1].strip() if done.returncode else None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("vllm-router", "vllm-router", "vllm-router==0.1.17"),
        Peer("sglang-router", "sglang-router", "sglang-router==0.3.2"),
        Peer("litellm", "litellm", "litellm[proxy]==1.106.2"),
    )
}


def main() -> int:
    """Run the command; return 1 if an installation failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; none: all")
    names = parser.parse_args().names or list(PEERS)
    if unknown := sorted(set(names) - set(PEERS)):
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    failed = 0
    for name in names:
        reason = PEERS[name].install()
        failed += reason is not None
        print(f"{name}: {f'not installed: {reason}' if reason else PEERS[name].read_version()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
