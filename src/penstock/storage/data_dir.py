"""Data folder: locked by one gateway at a time, whose process id it holds."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PID_FILE = "penstock.pid"
_LOCKED_BYTE = 1 << 30


class DataDirInUseError(Exception):
    """Another gateway uses this data folder."""


@contextmanager
def claim_data_dir(data_dir: Path) -> Iterator[None]:
    """Create the folder if it is missing (readable by its owner only) and lock it for this process.

    The operating system holds the lock, so it ends with the process, however that ends. Raises DataDirInUseError when
    another process holds it, OSError when the folder cannot be written.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / PID_FILE).open("a+", encoding="ascii") as file:
        if not _try_lock(file):
            raise DataDirInUseError(
                f"Another gateway (process {_read_pid(file)}) uses the data folder {data_dir}. "
                "Stop it, or give this one a folder of its own with PENSTOCK_DATA_DIR."
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def find_running_pid(data_dir: Path) -> int | None:
    """Return the process id of the gateway that holds the folder, None when there is none."""
    try:
        with (data_dir / PID_FILE).open("r+", encoding="ascii") as file:
            if _try_lock(file):
                return None
            return _read_pid(file)
    except OSError:
        return None


def _read_pid(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read(32).strip()
    return int(text) if text.isdigit() else None


if sys.platform == "win32":

    def _try_lock(file: IO[str]) -> bool:
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

else:

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
