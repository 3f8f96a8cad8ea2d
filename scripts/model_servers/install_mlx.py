"""`mlx_lm.server`: MLX with its CPU backend on Linux, as it is on a Mac."""

import platform
import sys
from pathlib import Path

from recipe import HERE, Candidate, CannotInstallError, Environment, Installation, Receipt, make_key

LOCK = HERE / "mlx.lock"


def list_candidates() -> list[Candidate]:
    if sys.platform not in ("linux", "darwin"):
        raise CannotInstallError(f"MLX has no build for {sys.platform} on {platform.machine()}")
    return [Candidate("MLX from its lock", make_key(LOCK, Path(__file__)), _install)]


def _install(installation: Installation) -> Receipt:
    environment = Environment.create(installation, installation.folder / "venv")
    environment.install_locked(LOCK)
    environment.import_modules("mlx_lm.server, mlx_lm.models.llama")
    version = environment.version_of("mlx"), environment.version_of("mlx-lm")
    return Receipt(f"mlx {version[0]}, mlx-lm {version[1]}", str(environment.program("mlx_lm.server")))
