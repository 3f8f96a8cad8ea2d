"""A clone of this checkout's last commit with a home of its own and an almost empty environment."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KEPT_VARIABLES = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")
KEPT_PREFIXES = ("PIP_", "UV_INDEX", "UV_DEFAULT_INDEX", "OPENBLAS_", "HTTP", "http", "NO_PROXY", "no_proxy")
STARTING = 300.0  # seconds for the first start, on a slow network
SUMMARY = re.compile(r"^=* *(\d+ (?:passed|failed|error).*?) *=*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FreshClone:
    """A folder with the clone, its home and the logs of what ran in it."""

    folder: Path
    variables: Mapping[str, str]

    @property
    def checkout(self) -> Path:
        return self.folder / "penstock"

    def run(self, name: str, command: Sequence[str], **variables: str) -> tuple[int, float, str]:
        """Run a command to its end; return its status, its seconds and its output, which is in `<name>.log` too."""
        log = self.folder / f"{name}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            done = subprocess.run(
                command,
                cwd=self.checkout,
                env={**self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            (self.folder / "failed").touch()
        return done.returncode, time.monotonic() - began, log.read_text("utf-8", "replace")

    def start(self, name: str) -> tuple[int, float, int]:
        """Run the README's first command until it answers, then press Ctrl-C.

        Returns the status of `/health` (0 without an answer), the seconds until it came, and the exit code.
        """
        port = find_free_port()
        log = self.folder / f"{name}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["./scripts/start_vllm_ollama.sh", str(port)],
                cwd=self.checkout,
                env=dict(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            status = 0
            while not status and process.poll() is None and time.monotonic() - began < STARTING:
                time.sleep(0.1)
                status = ask_status(f"http://127.0.0.1:{port}/health")
            seconds = time.monotonic() - began
            os.killpg(process.pid, signal.SIGINT)
            return status, seconds, process.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def make_fresh_clone() -> Iterator[FreshClone]:
    """Clone the last commit; the folder stays when a command fails or the block raises, for its logs."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-fresh-"))
    (folder / "home").mkdir()
    subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(folder / "penstock")], check=True)
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
    }
    python = {"PYTHON": os.environ["PYTHON"]} if os.environ.get("PYTHON") else {}
    print(f"(logs in {folder})", file=sys.stderr, flush=True)
    yield FreshClone(folder, {**kept, **python, "HOME": str(folder / "home")})
    if not (folder / "failed").exists():
        shutil.rmtree(folder, ignore_errors=True)


def find_namespace() -> list[str]:
    """Return the command that cuts another one off the network, or nothing where that cannot be done."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [unshare, "-n"]
    return []


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask_status(url: str) -> int:
    """Return the status of an answer, or 0 when there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def find_summary(output: str) -> str:
    """Return pytest's last line, without its frame."""
    found = SUMMARY.findall(output)
    return found[-1] if found else "no summary"
