"""CONTRIBUTING.md's "Add an engine in ten minutes", followed to the letter: a new engine is one file."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway_process import build_environment, run_gateway_process, wait_until
from tests.support.real_engines import free_port

ROOT = Path(__file__).parents[2]
DOCUMENTED_PORT = "30000"
START_SECONDS = 20.0

_SECTION = re.compile(r"^## Add an engine in ten minutes$(.*?)^## ", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^\*\*\d\. .*?\*\* `([\w./]+)`.*?^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the source in which the documented steps were followed."""

    folder: Path
    files: dict[str, str]
    commands: list[list[str]]

    @property
    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder / "src")}

    def run(self, *command: str) -> str:
        variables = {**os.environ, **build_environment(self.folder, self.variables)}
        done = subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    section = _SECTION.search((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert section
    files = dict(_FILE.findall(section[1]))
    commands = [line.split() for block in _COMMAND.findall(section[1]) for line in block.splitlines()]
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return Checkout(folder, files, commands)


@pytest.fixture
def simulated_server(checkout: Checkout) -> Iterator[int]:
    """Run the documented `penstock sim` command on a free port instead of the documented one."""
    (command,) = [command for command in checkout.commands if command[:2] == ["penstock", "sim"]]
    port = free_port()
    words = [str(port) if word == DOCUMENTED_PORT else word for word in command[1:]]
    log = checkout.folder / "sim.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", *words],
            cwd=checkout.folder,
            env=build_environment(checkout.folder, checkout.variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: str(port) in log.read_text() or process.poll() is not None, START_SECONDS, "it did not start"
        )
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_the_steps_add_one_module_one_test_and_settings(checkout: Checkout) -> None:
    assert list(checkout.files) == [
        "src/penstock/engines/sglang.py",
        "tests/unit/engines/test_sglang.py",
        "penstock.yaml",
    ]


def test_the_documented_code_keeps_the_house_rules(checkout: Checkout) -> None:
    paths = [path for path in checkout.files if path.endswith(".py")]
    checkout.run(sys.executable, "-m", "ruff", "check", *paths)
    checkout.run(sys.executable, "-m", "ruff", "format", "--check", *paths)


def test_the_documented_unit_test_passes(checkout: Checkout) -> None:
    (command,) = [command for command in checkout.commands if command[0].endswith("pytest")]
    assert "1 passed" in checkout.run(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"), *command[1:], "-o", "addopts="
    )


def test_the_settings_are_accepted(checkout: Checkout) -> None:
    assert "sglang" in checkout.run(sys.executable, "-m", "penstock", "check-config")


def test_a_server_of_the_new_kind_answers_clients_of_every_dialect(
    checkout: Checkout, simulated_server: int, tmp_path: Path
) -> None:
    settings = checkout.files["penstock.yaml"].replace(DOCUMENTED_PORT, str(simulated_server))
    with run_gateway_process(tmp_path / "gateway", settings, variables=checkout.variables) as running:
        running.wait_for_line(f"Server gpu (http://localhost:{simulated_server}): 1 model")
        (model,) = running.get("/v1/models").json()["data"]
        messages = [{"role": "user", "content": "Hello"}]
        request = {"model": model["id"], "messages": messages, "max_tokens": 5, "stream": False}
        openai = running.post("/v1/chat/completions", request).json()
        anthropic = running.post("/v1/messages", request).json()
        ollama = running.post("/api/chat", request).json()
        assert openai["choices"][0]["message"]["content"]
        assert anthropic["content"][0]["text"]
        assert ollama["message"]["content"]
        assert running.post("/v1/messages", {**request, "regex": "a+"}).status_code == 200  # one of `extra_fields`
        refused = running.post("/v1/messages", {**request, "guided_regex": "a+"})
        assert (refused.status_code, "SGLang does not support `guided_regex`" in refused.text) == (400, True)


def test_the_new_kind_has_its_own_environment_variable(
    checkout: Checkout, simulated_server: int, tmp_path: Path
) -> None:
    variables = {**checkout.variables, "SGLANG_URL": f"localhost:{simulated_server}"}
    with run_gateway_process(tmp_path / "gateway", variables=variables) as running:
        running.wait_for_line(f"Server sglang (http://localhost:{simulated_server}): 1 model")
