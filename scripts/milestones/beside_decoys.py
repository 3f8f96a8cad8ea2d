"""Run both commands of the README in a fresh clone that is set up, beside decoys, and print what came of it as JSON.

    unshare -n python scripts/milestones/beside_decoys.py FOLDER

FOLDER holds the clone and its home. In a network namespace of its own the loopback interface is brought up first.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path

from fresh_clone import CHECKOUT, FreshClone, find_summary

sys.path.insert(0, str(CHECKOUT))

from tests.support.decoys import PORTS, run_decoys

SET_INTERFACE_FLAGS = 0x8914  # SIOCSIFFLAGS of Linux
UP_AND_RUNNING = 0x41


def bring_loopback_up() -> None:
    """Bring `lo` up, which is down in a new network namespace; without the right to do that it is up already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(PermissionError):
        fcntl.ioctl(any_socket, SET_INTERFACE_FLAGS, struct.pack("16sh14s", b"lo", UP_AND_RUNNING, b""))


def is_free(port: int) -> bool:
    """Return whether a decoy can listen; a service of this machine stands for one, though it writes nothing down."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def main(folder: Path) -> None:
    if sys.platform == "linux":
        bring_loopback_up()
    clone, log = FreshClone(folder, dict(os.environ)), folder / "decoys.log"
    with run_decoys(log, [port for port in PORTS if is_free(port)]):
        start = clone.start("start-beside-decoys")
        log.write_text("")
        code, seconds, output = clone.run("test", ["./scripts/test.sh", "--durations=25"])
        visits = log.read_text("utf-8").splitlines()
    print(json.dumps({"start": start, "test": [code, seconds, find_summary(output)], "visits": visits}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
