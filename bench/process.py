"""Starts processes, ends them, and reads from /proc what a whole tree of them has used. Linux only."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
OWN = ("PENSTOCK_", "LLM_", "VLLM_", "OLLAMA_", "MLX_", "VICTORIA_", "OTEL_")


class Trouble(Exception):
    """Something cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A process and all that descend from it."""

    process: subprocess.Popen[str]
    log: Path

    def pids(self) -> list[int]:
        """The processes of the tree that are alive."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in children.read_text().split()]
        return found

    def cpu(self) -> float:
        """Seconds of user and system time so far; the kernel counts in steps of 10 ms."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._stats()) / TICKS

    def resident(self) -> float:
        """Resident memory in MB (2**20 bytes); pages that processes share count once for each."""
        return sum(int(fields[21]) for fields in self._stats()) * PAGE / 2**20

    def descriptors(self) -> int:
        """Open file descriptors."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return total

    def last_words(self) -> str:
        """The end of what it wrote, for a message."""
        text = self.log.read_text("utf-8", "replace").strip()
        return " | ".join(text.splitlines()[-3:])[-400:] or "it wrote nothing"

    def _stats(self) -> Iterator[list[str]]:
        for pid in self.pids():
            with contextlib.suppress(OSError):
                yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def started(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Tree]:
    """Run a command in a folder; its output goes to a file there. It is ended, with what it started, on leaving.

    Settings of gateways and engines in the caller's environment are not handed on.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    log = folder / "output.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={**clean, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    tree = Tree(process, log)
    try:
        yield tree
    finally:
        _end(tree)


@contextlib.contextmanager
def standin() -> Iterator[tuple[str, ...]]:
    """The stand-in for model servers; gives its base URLs."""
    command: list[str | Path] = [sys.executable, HERE / "standin.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            urls = tuple(process.stdout.readline().split())
            if not urls:
                raise Trouble("the stand-in did not start")
            yield urls
        finally:
            process.kill()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def raise_descriptor_limit() -> int:
    """Let this process and those it starts open as many files as the system lets it; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _end(tree: Tree) -> None:
    """Ask, wait, insist. Descendants that outlive their parent are insisted on too."""
    descendants = tree.pids()[1:]
    tree.process.terminate()
    try:
        tree.process.wait(10)
    except subprocess.TimeoutExpired:
        tree.process.kill()
        tree.process.wait()
    deadline = time.monotonic() + 2
    while (left := [pid for pid in descendants if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
