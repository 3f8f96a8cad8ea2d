"""Installing from a lock gives the same today and after every later release, and asks for nothing else."""

import base64
import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.setup.lock_files import (
    ROOT,
    Entry,
    Target,
    find_unlocked,
    list_targets,
    read_lock,
    read_requirements,
    replace_hashes,
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RUNTIME = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["build"]
WANTED = {
    "requirements.lock": RUNTIME,
    "requirements-test.lock": RUNTIME + PROJECT["project"]["optional-dependencies"]["test"],
}
LOCKS = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.lock"), *ROOT.glob("scripts/model_servers/*.lock"))
)
NEWER = "9999.0"
UV = Path(sys.executable).with_name("uv")


def read(lock: str) -> list[Entry]:
    return read_lock((ROOT / lock).read_text("utf-8"))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_version_in_a_lock_has_hashes_and_nothing_names_an_address(lock: str) -> None:
    entries = read(lock)
    assert entries
    assert all(entry.hashes for entry in entries)
    text = (ROOT / lock).read_text("utf-8")
    assert [word for word in ("://", "--index", "--extra-index", "--find-links", " @ ") if word in text] == []


@pytest.mark.parametrize("lock", WANTED)
@pytest.mark.parametrize(("title", "target"), [*list_targets()])
def test_a_lock_holds_all_that_the_project_and_its_packages_require(lock: str, title: str, target: Target) -> None:
    missing, _ = find_unlocked([Requirement(line) for line in WANTED[lock]], read(lock), target)
    assert missing == [], f"{title}: run scripts/lock"


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_holds_nothing_that_nobody_requires(lock: str) -> None:
    wanted = [Requirement(line) for line in WANTED[lock]]
    entries = [entry for entry in read(lock) if any(entry.applies_to(target) for _, target in list_targets())]
    used = {entry for _, target in list_targets() for entry in find_unlocked(wanted, entries, target)[1]}
    assert sorted(entry.name for entry in set(entries) - used) == [], "run scripts/lock"


def test_both_locks_hold_the_same_versions() -> None:
    versions = {entry.name: entry.version for entry in read("requirements-test.lock")}
    assert {entry.name: entry.version for entry in read("requirements.lock")}.items() <= versions.items()


def test_the_scripts_and_the_tests_use_one_uv() -> None:
    (uv,) = read("requirements-uv.lock")
    assert [entry.version for entry in read("requirements-test.lock") if entry.name == "uv"] == [uv.version]


def test_a_requirement_that_is_not_locked_is_found() -> None:
    _, target = next(iter(list_targets()))
    wanted = [Requirement("pytest-cov"), Requirement("coverage>=9999"), Requirement("not-locked")]
    missing, used = find_unlocked(wanted, read("requirements-test.lock"), target)
    assert sorted(missing) == ["coverage>=9999", "not-locked"]
    assert {"pytest-cov", "coverage", "pytest"} <= {entry.name for entry in used}


class SandboxIndex:
    """A package index on loopback: a wheel without code for each locked version, with the real one's requirements."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[tuple[str, str], str] = {}

    def publish(self, name: str, version: str, requires: list[str]) -> None:
        page = self.folder / name
        page.mkdir(parents=True, exist_ok=True)
        underscored = name.replace("-", "_")
        wheel = page / f"{underscored}-{version}-py3-none-any.whl"
        files = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            + "".join(f"Requires-Dist: {line}\n" for line in requires),
            "WHEEL": "Wheel-Version: 1.0\nGenerator: sandbox\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = ""
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, text in files.items():
                path = f"{underscored}-{version}.dist-info/{file}"
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
                record += f"{path},sha256={digest},{len(text.encode())}\n"
                archive.writestr(path, text)
            archive.writestr(f"{underscored}-{version}.dist-info/RECORD", record)
        self.hashes[name, version] = hashlib.sha256(wheel.read_bytes()).hexdigest()
        links = "".join(f'<a href="{one.name}">{one.name}</a>\n' for one in sorted(page.glob("*.whl")))
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", "utf-8")


@pytest.fixture(params=["as it was", "with newer releases"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, SandboxIndex]]:
    """An index with what the test lock names, on its own or beside a newer release of everything."""
    sandbox = SandboxIndex(tmp_path / "index")
    for entry in read("requirements-test.lock"):
        requires = [str(requirement) for requirement in read_requirements(entry.name)]
        sandbox.publish(entry.name, str(entry.version), requires)
        if request.param == "with newer releases":
            sandbox.publish(entry.name, NEWER, [*requires, "a-package-that-came-later"])
    handler = functools.partial(QuietHandler, directory=sandbox.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sandbox
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.mark.parametrize("lock", WANTED)
def test_the_set_up_installs_the_locked_versions_whatever_else_is_published(
    lock: str, index: tuple[str, SandboxIndex], tmp_path: Path
) -> None:
    url, sandbox = index
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copytree(ROOT / "scripts", checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements-uv.lock", checkout)
    (checkout / "any.lock").write_text(replace_hashes((ROOT / lock).read_text("utf-8"), sandbox.hashes), "utf-8")
    home = {"HOME": str(tmp_path / "home"), "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_DEFAULT_INDEX": url}
    variables = {"PATH": f"{UV.parent}:{os.environ['PATH']}", **home}
    script = f". scripts/environment.sh; find_uv; uv venv -q --python {sys.executable} .venv; install_locked any.lock"
    done = subprocess.run(
        ["bash", "-euc", script], cwd=checkout, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [UV, "pip", "freeze", "--python", checkout / ".venv" / "bin" / "python"],
        env=variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = dict(line.split("==") for line in listed.stdout.splitlines())
    here = {entry.name: entry.version for entry in read(lock) if entry.applies_to({})}
    assert {name: Version(version) for name, version in installed.items()} == here
