"""The package without a checkout: the wheel, installed into an empty environment."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.support.gateway_process import build_environment, wait_until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)


def run_uv(*words: str | Path) -> None:
    """Run the uv of the test environment, without the network: set-up has left everything in its cache."""
    command = [Path(sys.executable).with_name("uv"), *words, "-q", "--no-config", "--offline"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run_uv("build", "--wheel", "--no-build-isolation", *("--python", sys.executable), *("-o", folder), ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_it_contains_only_the_package_with_its_pages(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    files = [path.relative_to(source) for path in (source / "penstock").rglob("*") if path.is_file()]
    cached = ("__pycache__", ".mypy_cache", ".ruff_cache")
    assert inside == {path.as_posix() for path in files if not set(cached) & set(path.parts)}
    assert any(name.endswith(".html") for name in inside)
    assert "penstock/py.typed" in inside


def test_installed_into_an_empty_environment_it_serves(wheel: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    run_uv("venv", "--python", sys.executable, empty)
    python = empty / "bin" / "python"
    install = ("pip", "install", "--python", python, "--no-deps")
    run_uv(*install, "--require-hashes", "-r", ROOT / "requirements.lock")
    run_uv(*install, wheel)
    log = tmp_path / "log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [empty / "bin" / "penstock", "demo", "--port", "0"],
            cwd=tmp_path,
            env=build_environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "listens on" in log.read_text() or demo.poll() is not None, 30, "it did not start")
        found = re.search(r"listens on (\S+)", log.read_text())
        assert found, log.read_text()
        wait_until(lambda: _answers(f"{found[1]}/livez"), 10, "it listens but does not answer")
        with httpx.Client(base_url=found[1], timeout=30, trust_env=False) as client:
            assert client.get("/health").json()["simulated"] is True
            assert "<html" in client.get("/", headers={"accept": "text/html"}).text
            asked = {"model": "gemma3:1b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
            answer = client.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["content"].startswith("[simulated]")
    finally:
        demo.terminate()
        demo.wait(timeout=20)
    assert demo.returncode == 0
