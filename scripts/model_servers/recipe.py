"""What every engine's recipe stands on: a folder, logged commands, virtual environments, and a receipt at the end."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


class CannotInstallError(Exception):
    """An engine cannot be installed on this machine; the message is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was installed and how to start it; kept as `<name>.json` beside the engine's folder."""

    recipe: str  # an engine whose recipe has changed since is installed again
    version: str
    program: str  # absolute path of the server's program, or of the model's folder
    environment: dict[str, str] = field(default_factory=dict)  # what the program needs beside the caller's own


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine lives: `<base>/<name>/`, with its receipt, its log and the reason of a failure beside it."""

    base: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.base / self.name

    @property
    def log(self) -> Path:
        return self.base / f"{self.name}.log"

    @property
    def reason(self) -> Path:
        return self.base / f"{self.name}.reason"

    @property
    def _receipt(self) -> Path:
        return self.base / f"{self.name}.json"

    def receipt(self) -> Receipt | None:
        """The receipt of a finished installation that is still where it was made, else None."""
        try:
            receipt = Receipt(**json.loads(self._receipt.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        program = Path(receipt.program)
        return receipt if program.exists() and program.is_relative_to(self.base) else None

    def keep(self, receipt: Receipt) -> None:
        self._receipt.write_text(json.dumps(asdict(receipt), indent=2) + "\n", "utf-8")

    def clear(self) -> None:
        """Remove what an earlier run left, whole or half."""
        for path in (self._receipt, self.reason, self.log):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def say(self, step: str) -> None:
        print(f"{self.name}: {step}", flush=True)

    def run(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return its standard output; both outputs go to the log as well.

        Raises CannotInstallError with the command's last words when it fails or does not exist.
        """
        words = [str(word) for word in command]
        try:
            done = subprocess.run(
                words,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise CannotInstallError(f"{words[0]} does not start: {error.strerror}") from error
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}\n")
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            telling = [line for line in said if "error" in line.lower()] or said
            raise CannotInstallError(f"{Path(words[0]).name} failed: {telling[-1].strip()} (see {self.log})")
        return done.stdout


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of its own for the tools of one engine."""

    place: Place
    folder: Path

    @classmethod
    def create(cls, place: Place, folder: Path) -> "Environment":
        if not (folder / "bin" / "pip").exists():
            try:
                venv.create(folder, with_pip=True, symlinks=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise CannotInstallError(f"no virtual environment with {sys.executable}: {error}") from error
        return cls(place, folder)

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def pip(self, command: str, *words: str | Path) -> str:
        """Run pip without its own small talk; indexes and wheel folders are those of the user's pip settings."""
        return self.place.run(self.program("pip"), command, "-q", "--no-input", "--disable-pip-version-check", *words)

    def install(self, *requirements: str | Path) -> None:
        """Install without compiling: most modules of these packages are never imported, the others compile then."""
        self.pip("install", "--no-compile", *requirements)

    def install_pinned(self, pins: Path, imports: str, otherwise: Callable[[], None]) -> None:
        """Install exactly what a file of pins says; where that fails here, what `otherwise` does.

        Either must then be able to import `imports`, which also compiles those modules for the server's first start.
        """
        try:
            self.install("--no-deps", "-r", pins)
            self._import(imports)
        except CannotInstallError:
            self.place.say("the pinned packages do not fit this machine, pip chooses others")
            otherwise()
            self._import(imports)

    def _import(self, names: str) -> None:
        self.place.say("importing it once, which compiles its modules")
        self.place.run(self.program("python"), "-c", f"import {names}")

    def site_packages(self) -> Path:
        code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        return Path(self.place.run(self.program("python"), "-c", code).strip())


def tools(place: Place, *requirements: str) -> Environment:
    """An environment shared by the recipes for what they need while they install."""
    environment = Environment.create(place, place.base / "tools")
    environment.install(*requirements)
    return environment
