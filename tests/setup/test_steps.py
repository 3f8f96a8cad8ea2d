"""The set-up says what it does, how long it took, and what to do when a step fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.setup.lock_files import ROOT
from tests.support.real_engines import free_port

UV_FOLDER = Path(sys.executable).parent
LOCK = f"nothing-there==1.0 \\\n    --hash=sha256:{'0' * 64}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts, and a lock whose only package cannot be had."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements-uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "any.lock").write_text(LOCK, "utf-8")
    return tmp_path


def run(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    variables = {
        "PATH": f"{UV_FOLDER}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_DEFAULT_INDEX": f"http://127.0.0.1:{free_port()}",
        "UV_HTTP_RETRIES": "0",
        "PYTHON": sys.executable,
    }
    return subprocess.run(
        ["bash", "-euc", f". scripts/environment.sh; {script}"],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_step_that_takes_long_prints_its_last_line_again_and_again_and_then_its_time(checkout: Path) -> None:
    done = run(checkout, "PROGRESS_INTERVAL=0.1; run_step 'Doing it' bash -c 'echo half way; sleep 1'")
    assert done.returncode == 0
    first, *beats, last = done.stdout.splitlines()
    assert first == "==> Doing it"
    assert beats
    assert all(re.fullmatch(r"    \.\.\. \d s  half way", line) for line in beats)
    assert re.fullmatch(r"    done in \d s", last)


def test_a_step_that_fails_shows_the_end_of_its_output_and_keeps_its_status(checkout: Path) -> None:
    done = run(checkout, "run_step 'Doing it' bash -c 'echo broken; exit 3' || exit $?")
    assert done.returncode == 3
    assert re.search(r"failed after \d s with status 3: bash -c", done.stderr)
    assert "    | broken\n" in done.stderr


def test_without_an_index_the_set_up_says_what_to_do(checkout: Path) -> None:
    done = run(checkout, "install_from any.lock")
    assert done.returncode == 1
    assert "==> Installing the 1 packages of any.lock into .venv" in done.stdout
    assert "nothing-there" in done.stderr
    assert "Check the network (UV_DEFAULT_INDEX and HTTPS_PROXY apply" in done.stderr


def test_a_python_that_is_none_is_refused(checkout: Path) -> None:
    done = run(checkout, "PYTHON=no-such-python; install_from any.lock")
    assert done.returncode == 1
    assert done.stderr == "PYTHON=no-such-python is not a Python 3.11 or later. Set it to another one, or unset it.\n"
