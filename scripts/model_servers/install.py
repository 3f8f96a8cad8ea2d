"""Install real model servers for the tests and benchmarks, and try each by a real generation.

    python scripts/model_servers/install.py all

Servers are kept in the cache folder by a hash of what they were made from, so that another checkout finds them. What
this checkout uses is named in `.engines`. Nothing needs root. A server that this machine cannot run is `skipped` with
the reason, which the tests print as well.
"""

import argparse
import fcntl
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Protocol, cast

from recipe import (
    Candidate,
    CannotInstallError,
    FailedTrialError,
    Installation,
    Receipt,
    read_receipt,
    remove_folder,
    write_receipt,
)

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("model", "llamacpp", "mlx", "vllm")  # the model comes first, for the others are tried with it


class Recipe(Protocol):
    """One server's module: `install_<name>.py`."""

    def list_candidates(self) -> list[Candidate]:
        """Return the ways to install it here, best first. Raises CannotInstallError when there is none."""
        ...


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="+", choices=[*NAMES, "all"])
    parser.add_argument("--dir", type=Path, default=CHECKOUT / ".engines", help="where receipts and logs go")
    parser.add_argument("--cache", type=Path, default=_find_cache(), help="where servers are kept")
    arguments = parser.parse_args()
    base, cache = cast("Path", arguments.dir).resolve(), cast("Path", arguments.cache).resolve() / "model-servers"
    for folder in (base, cache):
        folder.mkdir(parents=True, exist_ok=True)
    names = NAMES if "all" in arguments.what else tuple(name for name in NAMES if name in arguments.what)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would build in one folder
        installed = [_install(name, base, cache) for name in names]
    return 0 if all(installed) else 1


def _find_cache() -> Path:
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"
    return Path(os.environ.get("PENSTOCK_CACHE_DIR") or usual)


def _install(name: str, base: Path, cache: Path) -> bool:
    """Install one server unless it is there; False only when what every test needs, the model, cannot be made."""
    receipt_path, reason, log = (base / f"{name}.{suffix}" for suffix in ("json", "reason", "log"))
    for path in (receipt_path, reason):
        path.unlink(missing_ok=True)
    failures = []
    try:
        recipe = cast("Recipe", importlib.import_module(f"install_{name}"))
        for candidate in recipe.list_candidates():
            installation = Installation(name, cache / f"{name}-{candidate.key}", log)
            try:
                write_receipt(receipt_path, _find_or_make(installation, candidate, base))
                return True
            except CannotInstallError as error:
                installation.print_step(f"{candidate.title}: {error}")
                failures.append(str(error))
    except CannotInstallError as error:
        failures.append(str(error))
    reason.write_text("; ".join(failures) + "\n", "utf-8")
    print(f"{'failed' if name == 'model' else 'skipped'}: {name}: {'; '.join(failures)}", flush=True)
    return name != "model"


def _find_or_make(installation: Installation, candidate: Candidate, base: Path) -> Receipt:
    """Return the receipt of the cache, or install and try one server and keep it there."""
    kept = installation.folder / "receipt.json"
    if receipt := read_receipt(kept):
        installation.print_step(f"already there: {receipt.version}")
        return receipt
    failed = installation.folder.with_suffix(".failed")
    if failed.exists():
        raise CannotInstallError(failed.read_text("utf-8").strip())
    remove_folder(installation.folder)
    installation.folder.mkdir(parents=True)
    installation.log.unlink(missing_ok=True)
    started = time.monotonic()
    installation.print_step(f"installing {candidate.title}")
    try:
        receipt = candidate.install(installation)
        installed = time.monotonic()
        _try(installation, receipt, base)
    except CannotInstallError as error:
        remove_folder(installation.folder)
        if isinstance(error, FailedTrialError):
            failed.write_text(f"{error}\n", "utf-8")
        raise
    write_receipt(kept, receipt)
    size = sum(path.lstat().st_size for path in installation.folder.rglob("*")) / 1e6
    seconds = f"{installed - started:.1f} s, tried in {time.monotonic() - installed:.1f} s"
    installation.print_step(f"installed {receipt.version} in {seconds}, {size:,.0f} MB")
    return receipt


def _try(installation: Installation, receipt: Receipt, base: Path) -> None:
    """Let the server generate what the tests expect of it. Raises FailedTrialError when it does not."""
    if installation.name == "model":
        return
    trial = installation.folder / "trial"
    trial.mkdir()
    write_receipt(trial / f"{installation.name}.json", receipt)
    model = read_receipt(base / "model.json")
    if model is None:
        raise CannotInstallError("the model to try it with is not there")
    write_receipt(trial / "model.json", model)
    installation.print_step("trying it: one server chats and embeds, as far as it can")
    variables = {"PENSTOCK_TEST_ENGINES_DIR": str(trial), "PYTHONPATH": str(CHECKOUT)}
    try:
        installation.run(sys.executable, "-m", "tests.support.try_engine", installation.name, environment=variables)
    except CannotInstallError as error:
        raise FailedTrialError(f"it failed its trial: {error}") from error
    remove_folder(trial)


if __name__ == "__main__":
    sys.exit(main())
