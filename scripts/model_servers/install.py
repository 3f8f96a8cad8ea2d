"""Install real model servers for the tests and benchmarks, each into a folder of this checkout.

    python scripts/model_servers/install.py all

Nothing is written outside that folder, and nothing needs root. A second run finds what the first one left and ends at
once. An engine that this machine cannot run is `skipped` with the reason, which the tests print as well.
"""

import argparse
import fcntl
import importlib
import sys
import time
from pathlib import Path
from typing import Protocol, cast

from recipe import CannotInstallError, Place, Receipt

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("llamacpp", "mlx", "model", "vllm")  # the slowest comes last


class Recipe(Protocol):
    """One engine's module: `install_<name>.py`."""

    RECIPE: str

    def install(self, place: Place) -> Receipt: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="+", choices=[*NAMES, "all"])
    parser.add_argument("--dir", type=Path, default=CHECKOUT / ".engines", help="default: .engines in this checkout")
    arguments = parser.parse_args()
    base = cast("Path", arguments.dir).resolve()
    base.mkdir(parents=True, exist_ok=True)
    names = NAMES if "all" in arguments.what else tuple(name for name in NAMES if name in arguments.what)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would build in one folder
        installed = [_install(Place(base, name)) for name in names]
    return 0 if all(installed) else 1


def _install(place: Place) -> bool:
    """Install one engine unless it is there; False only when what every test needs, the model, cannot be made."""
    recipe = cast("Recipe", importlib.import_module(f"install_{place.name}"))
    present = place.receipt()
    if present is not None and present.recipe == recipe.RECIPE:
        place.say(f"already there: {present.version}")
        return True
    started = time.monotonic()
    place.clear()
    try:
        receipt = recipe.install(place)
    except CannotInstallError as error:
        place.reason.write_text(f"{error}\n", "utf-8")
        print(f"{'failed' if place.name == 'model' else 'skipped'}: {place.name}: {error}", flush=True)
        return place.name != "model"
    place.keep(receipt)
    size = sum(path.lstat().st_size for path in place.folder.rglob("*")) / 1e6
    place.say(f"installed {receipt.version} in {time.monotonic() - started:.1f} s, {size:,.0f} MB")
    return True


if __name__ == "__main__":
    sys.exit(main())
