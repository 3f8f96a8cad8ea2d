"""A gateway as a user starts it: `penstock serve` in a process, a folder and a data folder of its own.

    with gateway(folder, "llm: …") as running:
        ...  # running.url answers; running.read_log() is its log

The folder is the process's working directory, so that the machine's own settings are not read.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.real_engines import free_port

KEPT: Final = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LANG", "USUAL_PORTS_FOLDER")
START_SECONDS: Final = 20.0  # until it must have started
ASK: Final = "Привет! Как дела?"
STEP: Final = 0.02  # seconds between two polls of something outside this process

_LISTENS = re.compile(r"listens on (http://[\w.:\[\]]+)")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers. It belongs to the `with` that started it."""

    url: str  # no trailing slash
    folder: Path
    log: Path  # both of its outputs
    process: "subprocess.Popen[bytes]"

    @property
    def settings(self) -> Path:
        """The file that it reads its settings from, and watches."""
        return self.folder / "penstock.yaml"

    @property
    def http(self) -> httpx.Client:
        """A client for one `with`."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def get(self, path: str, **headers: str) -> httpx.Response:
        with self.http as client:
            return client.get(path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        with self.http as client:
            return client.post(path, json=body, headers=headers)

    def stream(self, path: str, body: Any, **headers: str) -> str:
        """Return the complete text of a streamed response, as received."""
        with self.http as client, client.stream("POST", path, json=body, headers=headers) as response:
            text = response.read().decode()
            assert response.status_code == 200, text
            return text

    def read_log(self) -> str:
        """Return its log so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for_line(self, text: str, patience: float = 10.0) -> None:
        """Wait until its log contains this text."""
        wait_until(lambda: text in self.read_log(), patience, f"the gateway's log does not contain: {text}")

    def list_servers(self) -> dict[str, dict[str, Any]]:
        """`/api/models/servers` by name."""
        return {server["name"]: server for server in self.get("/api/models/servers").json()["servers"]}


def wait_until(condition: Callable[[], bool], patience: float, otherwise: str) -> None:
    """Poll the condition; raise AssertionError with `otherwise` if it does not hold within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(STEP)


def render_settings(kind: str, *urls: str) -> str:
    """Render a settings file that names these servers of a kind."""
    servers = ", ".join(f'{{name: {kind}{number}, url: "{url}"}}' for number, url in enumerate(urls, 1))
    return f"llm: {{providers: {{{kind}: {{servers: [{servers}]}}}}}}\n"


def build_environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a command that must not depend on the machine.

    A PYTHONPATH in `more` is put before the present one, which holds the guard of the usual ports.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    variables = {**kept, "HOME": str(folder / "home"), "PENSTOCK_DATA_DIR": str(folder / "data"), **(more or {})}
    paths = [(more or {}).get("PYTHONPATH", ""), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(path for path in dict.fromkeys(paths) if path)
    return variables


@contextlib.contextmanager
def run_gateway_process(
    folder: Path, settings: str | None = None, *, variables: Mapping[str, str] | None = None, command: str = "serve"
) -> Iterator[Gateway]:
    """Start it on a free port with `settings` as its `penstock.yaml` (None: no file), and end it afterwards.

    Its log is printed, so that a failed test shows it. AssertionError if it ends by itself or does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if settings is not None:
        (folder / "penstock.yaml").write_text(settings, encoding="utf-8")
    log, port = folder / "log", free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", command, "--port", str(port)],
            cwd=folder,
            env=build_environment(folder, variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = _wait_until_it_listens(process, log)
        yield Gateway(url, folder, log, process)
    finally:
        _end(process)
        print(f"--- log of the gateway in {folder}\n{log.read_text('utf-8', 'replace')}")


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return the address, once `/livez` answers there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        output = log.read_text("utf-8", "replace")
        assert process.poll() is None, f"the gateway ended with status {process.returncode}:\n{output}"
        found = _LISTENS.search(output)
        if found is not None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{found[1]}/livez", trust_env=False).status_code == 200:
                    return found[1]
        time.sleep(STEP)
    raise AssertionError(f"the gateway did not start within {START_SECONDS:.0f} s:\n{output}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop; kill it if it still runs after a moment."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
