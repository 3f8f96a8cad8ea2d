"""Base of every recipe: a cached folder, logged commands, virtual environments, and a receipt at the end."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRESS_INTERVAL = 5.0  # seconds between two lines about a command that is still running


class CannotInstallError(Exception):
    """A server cannot be installed on this machine; the message is the reason, in one line."""


class FailedTrialError(CannotInstallError):
    """A server was installed but does not generate what the tests expect; trying again would not help."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An installed server and how to start it; kept as `<name>.json`, where the tests read it."""

    version: str
    program: str  # absolute path of the server's program, or of the model's folder
    environment: dict[str, str] = field(default_factory=dict)  # what the program needs beside the caller's own


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to install a server. `key` names everything that decides the result: files, versions, options."""

    title: str
    key: str
    install: "Callable[[Installation], Receipt]"


def make_key(*parts: str | Path) -> str:
    """Return a hash of texts and of files' content, of this Python and this kind of machine."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {sys.platform} {platform.machine()}".encode())
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Installation:
    """Installation of one server in `folder`, a folder of the cache. `log` holds the output of its commands."""

    name: str
    folder: Path
    log: Path

    def print_step(self, step: str) -> None:
        print(f"{self.name}: {step}", flush=True)

    def run(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return its output, which goes to the log as well.

        Prints a line every PROGRESS_INTERVAL seconds. Raises CannotInstallError with the end of the command's output
        when it fails.
        """
        arguments = [str(argument) for argument in command]
        variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})}
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {' '.join(arguments)}\n")
            log.flush()
            start = log.tell()
            try:
                process = subprocess.Popen(
                    arguments, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise CannotInstallError(f"{arguments[0]} does not start: {error.strerror}") from error
            self._wait(process, start)
            log.seek(start)
            output = log.read()
        if process.returncode:
            lines = output.strip().splitlines() or ["no output"]
            errors = [line for line in lines if "error" in line.lower()] or lines
            raise CannotInstallError(f"{Path(arguments[0]).name} failed: {errors[-1].strip()} (see {self.log})")
        return output

    def _wait(self, process: "subprocess.Popen[bytes]", start: int) -> None:
        started = time.monotonic()
        while True:
            try:
                process.wait(PROGRESS_INTERVAL)
                return
            except subprocess.TimeoutExpired:
                text = self.log.read_bytes()[start:].decode("utf-8", "replace").strip()
                self.print_step(f"... {time.monotonic() - started:.0f} s  {(text.splitlines() or [''])[-1][:100]}")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of its own for one server, or for the tools that build it."""

    installation: Installation
    folder: Path

    @classmethod
    def create(cls, installation: Installation, folder: Path) -> "Environment":
        installation.run(find_uv(), "venv", "-q", "--no-config", "--clear", "--python", sys.executable, folder)
        return cls(installation, folder)

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def install(self, *requirements: str | Path) -> None:
        """Install exactly these, without resolving; what is in uv's cache needs no network."""
        arguments = [find_uv(), "pip", "install", "--python", self.program("python"), "--no-deps", *requirements]
        try:
            self.installation.run(*arguments, "--no-config", "--offline")
        except CannotInstallError:
            self.installation.run(*arguments)

    def install_locked(self, lock: Path) -> None:
        self.install("--require-hashes", "--requirement", lock)

    def import_modules(self, names: str) -> None:
        """Import modules once, which compiles them for the server's first start."""
        self.installation.print_step("importing it once, which compiles its modules")
        self.installation.run(self.program("python"), "-c", f"import {names}")

    def version_of(self, package: str) -> str:
        code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
        return self.installation.run(self.program("python"), "-c", code).strip().splitlines()[-1]

    def site_packages(self) -> Path:
        code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        return Path(self.installation.run(self.program("python"), "-c", code).strip())


def find_uv() -> Path | str:
    """Return the uv that the set-up scripts have chosen, else the one of this environment."""
    return os.environ.get("UV") or Path(sys.executable).with_name("uv")


def download(installation: Installation, tools: Environment, lock: Path, package: str, *options: str) -> Path:
    """Download one locked package with pip, whose find-links setting may name a folder, and return the file."""
    folder = installation.folder / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    only = folder / "requirements.txt"
    only.write_text(_entry(lock, package), "utf-8")
    quiet = ("--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    installation.run(tools.program("python"), "-m", "pip", "download", *quiet, *options, "-d", folder, "-r", only)
    (file,) = (path for path in folder.iterdir() if path != only)
    return file


def _entry(lock: Path, package: str) -> str:
    """Return one package's requirement with its hashes, as a lock has it."""
    entries = lock.read_text("utf-8").replace("\\\n", "\\\0").splitlines()
    (found,) = (entry for entry in entries if entry.startswith(f"{package}=="))
    return found.replace("\0", "\n") + "\n"


def create_tools(installation: Installation) -> Environment:
    """Create an environment with pip, cmake and ninja, for the time of an installation."""
    tools = Environment.create(installation, installation.folder / "tools")
    tools.install_locked(HERE / "tools.lock")
    return tools


def write_receipt(path: Path, receipt: Receipt) -> None:
    path.write_text(json.dumps(asdict(receipt), indent=2) + "\n", "utf-8")


def read_receipt(path: Path) -> Receipt | None:
    """Return a receipt whose program is still there, else None."""
    try:
        receipt = Receipt(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    program = Path(receipt.program)
    interpreter = program.with_name("python")  # a link, where the program runs in an environment of its own
    is_complete = program.exists() and (interpreter.exists() or not interpreter.is_symlink())
    return receipt if is_complete else None


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
