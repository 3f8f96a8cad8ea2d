"""Check the types of the scripts strictly. Each folder is checked alone, as its modules import one another by name."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
FOLDERS = (SCRIPTS, SCRIPTS / "lints", SCRIPTS / "milestones", SCRIPTS / "model_servers")


def main() -> int:
    failed, variables = 0, {**os.environ, "MYPYPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS / 'lints'}"}
    for folder in FOLDERS:
        files = sorted(path.name for path in folder.glob("*.py"))
        cache = SCRIPTS.parent / ".mypy_cache" / folder.name
        command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-error-summary"]
        done = subprocess.run([*command, f"--cache-dir={cache}", *files], cwd=folder, env=variables, check=False)
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
