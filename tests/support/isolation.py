"""Isolation of a test run from the machine: its variables, its working directory, the ports of model servers."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SITE: Final = Path(__file__).with_name("site")
sys.path.insert(0, str(SITE))

import port_guard  # noqa: E402  found in SITE, as by every process that a test starts

ROOT: Final = Path(__file__).parents[2]
MACHINE: Final[Mapping[str, str]] = dict(os.environ)
"""The machine's variables as they were: proxies and package settings, for a test that installs packages."""
KEPT_VARIABLES: Final = frozenset(
    {
        *("CI", "COLUMNS", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SYSTEMROOT", "TERM", "TMPDIR", "TZ", "USER"),
        *("PENSTOCK_CACHE_DIR", "SSL_CERT_FILE", "USUAL_PORTS_FOLDER", "UV", "UV_CACHE_DIR", "UV_LINK_MODE"),
        "XDG_CACHE_HOME",
    }
)
KEPT_PREFIXES: Final = ("COV_", "COVERAGE_", "HYPOTHESIS_", "LC_", "OPENBLAS_", "PENSTOCK_TEST_", "PYTEST_", "PYTHON")


def isolate() -> None:
    """Drop every variable that is not known to be harmless, and guard the usual ports here and in child processes."""
    for name in list(os.environ):
        if name not in KEPT_VARIABLES and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(SITE)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SITE), *paths])
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".hypothesis"))
    port_guard.install()


class UsualPorts:
    """The usual ports of model servers as one test sees them: nothing listens there unless the test redirects it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def redirect(self, usual: int, port: int) -> None:
        """Let connections to a usual port reach another one, from now on and in processes that run already."""
        if usual not in port_guard.USUAL_PORTS:
            raise ValueError(f"{usual} is not guarded")
        unfinished = self._folder / f"{usual}.new"
        unfinished.write_text(str(port), "ascii")
        unfinished.rename(self._folder / str(usual))
