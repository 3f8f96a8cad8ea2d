"""The start script on a fresh machine: a copy of the checkout, a new home, an empty environment, real processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.sim import Simulator
from tests.support.gateway_process import wait_until
from tests.support.isolation import MACHINE
from tests.support.real_engines import SENTENCE, Running, free_port

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".git", ".venv", ".engines", ".*_cache", "__pycache__", "penstock.yaml", ".env", "*.log", "*.pid", "dist")
# How this machine reaches packages is its own affair, and what it has in its cache need not be fetched again; what a
# user may have set for Penstock is not passed on.
KEPT_VARIABLES = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"  # whose packages are cached
KEPT_PREFIXES = ("PIP_", "UV_", "HTTP", "http", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")
INSTALLING = 240.0  # seconds for the first start, on a slow network

pytestmark = pytest.mark.timeout(INSTALLING + 60)


@dataclass(frozen=True, slots=True)
class RunningScript:
    """A start script that runs in the foreground, and its output so far."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str

    def read_log(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=30, trust_env=False)

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=30, trust_env=False)

    def press_ctrl_c(self) -> int:
        """Send the signal of Ctrl-C to the process group; return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=20)


class Checkout:
    """A copy of this checkout, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "penstock"
        self.home = folder / "home"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        self.home.mkdir()

    def configure(self, settings: str | None) -> None:
        file = self.folder / "penstock.yaml"
        file.unlink(missing_ok=True)
        if settings is not None:
            file.write_text(settings, encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            name: value for name, value in MACHINE.items() if name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
        }
        cache = MACHINE.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        guard = {"PYTHONPATH": os.environ["PYTHONPATH"], "PYTHON": PYTHON}
        return {**kept, **guard, "XDG_CACHE_HOME": cache, "HOME": str(self.home), **more}

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script to its end."""
        return subprocess.run(
            ["bash", "scripts/start_vllm_ollama.sh", *words],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALLING,
            check=False,
        )

    @contextlib.contextmanager
    def run_in_foreground(self, *words: str, **variables: str) -> Iterator[RunningScript]:
        """Run the script in the foreground, on a free port, until it has printed the address."""
        port, log = free_port(), self.home / f"log-{time.monotonic_ns()}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", str(self.folder / "scripts" / "start_vllm_ollama.sh"), str(port), *words],
                cwd=self.home,
                env=self.environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        script = RunningScript(process, log, f"http://127.0.0.1:{port}")
        try:
            wait_until(
                lambda: "Penstock answers at" in script.read_log() or process.poll() is not None,
                INSTALLING,
                f"no address within {INSTALLING:.0f} s",
            )
            assert process.poll() is None, script.read_log()
            yield script
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(script.read_log())


def render_settings(kind: str, url: str) -> str:
    """Render a settings file that names this server."""
    return f'llm: {{providers: {{{kind}: {{servers: [{{name: mine, url: "{url}"}}]}}}}}}\n'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("fresh machine")  # with a space, as a user's folder may have
    yield Checkout(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def without_settings(checkout: Checkout) -> None:
    checkout.configure(None)


@pytest.mark.engine("llamacpp")
def test_with_one_llama_server_configured_every_api_answers_at_the_printed_address(
    checkout: Checkout, llama_a: Running
) -> None:
    checkout.configure(render_settings("llamacpp", llama_a.url))
    with checkout.run_in_foreground() as script:
        assert f"Penstock answers at {script.url} (healthy)" in script.read_log()
        assert f"mine: llamacpp at {llama_a.url}, up, 1 model: tiny" in script.read_log()
        assert script.get("/health").status_code == 200
        assert [model["name"] for model in script.get("/models").json()["models"]] == ["tiny"]
        assert script.post("/chat", {"message": "Привет!", "model": "tiny"}).json()["response"] == SENTENCE
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "Привет!"}]}
        assert script.post("/v1/chat/completions", chat).json()["choices"][0]["message"]["content"] == SENTENCE
        assert script.press_ctrl_c() == 0


def test_a_second_start_installs_nothing(checkout: Checkout) -> None:
    checkout.configure(render_settings("vllm", "http://127.0.0.1:9"))
    with checkout.run_in_foreground():
        pass  # the first one, whichever test that was
    with checkout.run_in_foreground() as script:
        assert "Installing" not in script.read_log()


def test_without_configuration_and_servers_it_prints_the_address_of_a_simulation(checkout: Checkout) -> None:
    with checkout.run_in_foreground() as script:
        assert "No model server was found: two simulated ones answer" in script.read_log()
        assert "ollama pull" not in script.read_log()
        health = script.get("/health")
        assert (health.status_code, health.json()["simulated"]) == (200, True)
        answer = script.post("/chat", {"message": "Привет!"}).json()
        assert answer["response"].startswith("[simulated]")


def test_with_a_configured_server_that_is_down_it_starts_and_says_what_to_do(checkout: Checkout) -> None:
    port = free_port()
    away = f"http://127.0.0.1:{port}"
    with checkout.run_in_foreground(OLLAMA_URL=away) as script:
        assert f"Penstock answers at {script.url} (unhealthy)" in script.read_log()
        assert f"primary: tried {away}: Cannot connect to {away}: connection refused." in script.read_log()
        assert "Start it (`ollama serve`), or set OLLAMA_URL to the address where it runs." in script.read_log()
        assert script.get("/health").status_code == 503


def test_it_prints_how_to_get_the_key_models_that_an_ollama_server_lacks(
    checkout: Checkout, sim_ollama: Simulator
) -> None:
    with checkout.run_in_foreground(OLLAMA_URL=sim_ollama.url, LLM_MODEL="qwen3:14b") as script:
        commands = [line.strip() for line in script.read_log().splitlines() if "ollama pull" in line]
    where = f"OLLAMA_HOST={sim_ollama.url}"
    assert commands == [f"{where} ollama pull {model}" for model in ("bge-m3", "gpt-oss:20b", "qwen3:14b")]


def test_detached_it_runs_until_stop(checkout: Checkout) -> None:
    checkout.configure(render_settings("vllm", "http://127.0.0.1:9"))
    port = str(free_port())
    start = checkout.run("--detach", VLLM_OLLAMA_PORT=port)
    try:
        assert start.returncode == 0, start.stderr
        assert f"Penstock answers at http://127.0.0.1:{port} (unhealthy)" in start.stdout
        pid = int((checkout.folder / "penstock.pid").read_text())
        assert httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
        again = checkout.run("--detach", VLLM_OLLAMA_PORT=port)
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == f"A detached gateway runs already (process {pid}); --stop ends it.\n"
        taken = checkout.run(port)
        assert taken.returncode == 1
        assert f"Something answers at http://127.0.0.1:{port} already (it is Penstock)." in taken.stderr
    finally:
        stop = checkout.run("--stop")
    assert (stop.returncode, stop.stdout.splitlines()[-1]) == (0, "Stopped.")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert checkout.run("--stop").stdout == "No gateway was left running from this checkout.\n"


def test_invalid_settings_stop_it_with_the_gateways_message(checkout: Checkout) -> None:
    done = checkout.run(LLM_MODE="olama")
    assert done.returncode == 2
    assert "LLM_MODE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["0", "70000"])
def test_an_invalid_port_is_refused(checkout: Checkout, port: str) -> None:
    done = checkout.run(port)
    assert done.returncode == 2
    assert done.stderr.endswith("The port must be a number from 1 to 65535.\n")


def test_without_a_python_that_is_new_enough_it_says_where_to_get_one(checkout: Checkout, tmp_path: Path) -> None:
    shutil.copytree(checkout.folder / "scripts", tmp_path / "checkout" / "scripts")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # one that is too old
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        ["bash", "scripts/start_vllm_ollama.sh"],
        cwd=tmp_path / "checkout",
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or later is needed and was not found")
    assert "brew install python" in done.stderr
