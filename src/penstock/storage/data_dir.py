"""Who runs on a data folder: one gateway at a time, found by its process number."""

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
    """Another gateway runs on this folder."""


@contextmanager
def claim_data_dir(data_dir: Path) -> Iterator[None]:
    """Make the folder (readable by its owner only) if need be, and hold it for this process until the end.

    The hold is the operating system's, so it ends with the process, however that ends. Raises DataFolderInUseError
    that says what to do, OSError when the folder cannot be written.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / PID_FILE).open("a+", encoding="ascii") as file:
        if not _try_lock(file):
            raise DataDirInUseError(
                f"another gateway (process {_read_pid(file)}) runs on {data_dir}; "
                "stop it, or give this one its own folder: PENSTOCK_DATA_DIR"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def find_running_pid(data_dir: Path) -> int | None:
    """The process number of the gateway that holds the folder, None when there is none."""
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
