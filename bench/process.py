"""Processes: start and end them, and read the resources of a process tree from /proc. Linux only."""

import contextlib
import fcntl
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
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
SETTING_PREFIXES = ("PENSTOCK_", "LLM_", "VLLM_", "OLLAMA_", "MLX_", "VICTORIA_", "OTEL_")


class BenchmarkError(Exception):
    """Reason why something cannot be measured here."""


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """A process and its descendants."""

    process: subprocess.Popen[str]
    log: Path

    def list_pids(self) -> list[int]:
        """Return the running processes of the tree."""
        pids = [self.process.pid]
        for pid in pids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pids += [int(child) for child in children.read_text().split()]
        return pids

    def cpu_seconds(self) -> float:
        """Return the user and system time so far, in seconds; the kernel counts in steps of 10 ms."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._read_stats()) / TICKS_PER_SECOND

    def resident_mb(self) -> float:
        """Return the resident memory in MB (2**20 bytes); shared pages count once per process."""
        return sum(int(fields[21]) for fields in self._read_stats()) * PAGE_SIZE / 2**20

    def count_descriptors(self) -> int:
        """Return the number of open file descriptors."""
        total = 0
        for pid in self.list_pids():
            with contextlib.suppress(OSError):
                total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return total

    def last_output(self) -> str:
        """Return the end of the output, for an error message."""
        text = self.log.read_text("utf-8", "replace").strip()
        return " | ".join(text.splitlines()[-3:])[-400:] or "no output"

    def _read_stats(self) -> Iterator[list[str]]:
        for pid in self.list_pids():
            with contextlib.suppress(OSError):
                yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def run_process(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[ProcessTree]:
    """Run a command in a folder, with its output in a file there; end it and its descendants on exit.

    Environment variables that configure gateways or model servers are not passed on.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTING_PREFIXES)}
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
    tree = ProcessTree(process, log)
    try:
        yield tree
    finally:
        _terminate(tree)


@contextlib.contextmanager
def run_standin() -> Iterator[tuple[str, ...]]:
    """Run the stand-in for model servers; yield its base URLs."""
    command: list[str | Path] = [sys.executable, HERE / "standin.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            urls = tuple(process.stdout.readline().split())
            if not urls:
                raise BenchmarkError("the stand-in did not start")
            yield urls
        finally:
            process.kill()


def find_free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_descriptor_limit() -> int:
    """Raise the limit of open files, also for child processes, to the hard limit; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def grow_descriptor_table(size: int = 8192) -> None:
    """Let the kernel make room for `size` open files now; see `penstock.serving.server.grow_descriptor_table`.

    Otherwise the load generator or the stand-in waits 10 to 15 ms when it opens its 256th connection.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(fcntl.fcntl(0, fcntl.F_DUPFD, min(size, limit) - 1))


def _terminate(tree: ProcessTree) -> None:
    """Terminate the process, kill it after 10 s, and kill descendants that outlive it."""
    descendants = tree.list_pids()[1:]
    tree.process.terminate()
    try:
        tree.process.wait(10)
    except subprocess.TimeoutExpired:
        tree.process.kill()
        tree.process.wait()
    deadline = time.monotonic() + 2
    while (left := [pid for pid in descendants if _is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
