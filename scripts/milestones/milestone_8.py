"""A set-up that works on every machine, any day; names and shapes that an engineer of the field expects."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fresh_clone import CHECKOUT, FreshClone, find_summary, make_fresh_clone
from rows import Row

sys.path.insert(0, str(CHECKOUT))

from tests.support.decoys import PORTS, run_decoys

TITLE = "The house"
SUITE_SECONDS = 12 * 60
SUITE_SECONDS_WITH_VLLM = 20 * 60
CHECK_SECONDS = 60


def measure_check() -> Iterator[Row]:
    began = time.monotonic()
    done = subprocess.run([CHECKOUT / "scripts" / "check"], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    is_met = done.returncode == 0 and seconds <= CHECK_SECONDS
    yield Row("scripts/check", f"passes in {CHECK_SECONDS} s", f"{last} {seconds:.0f} s", is_met)


def measure_fresh_clone() -> Iterator[Row]:
    """Run both commands of the README in a fresh clone with a new home, with decoys on the usual ports."""
    with make_fresh_clone() as clone:
        log = clone.folder / "decoys.log"
        with run_decoys(log):
            yield from _start(clone)
            log.write_text("")
            yield from _test(clone)
            visits = log.read_text("utf-8").splitlines()
        ports = ", ".join(map(str, PORTS))
        measured = f"{len(visits)} {visits[:3] if visits else ''}".strip()
        yield Row(f"visits at decoys on {ports} during the tests", "0", measured, not visits)


def _start(clone: FreshClone) -> Iterator[Row]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    status, seconds, exit_code = clone.start(port)
    measured = f"/health {status} after {seconds:.1f} s, exit code {exit_code}"
    yield Row(
        "first command, new home", "/health 200, Ctrl-C ends it with 0", measured, (status, exit_code) == (200, 0)
    )


def _test(clone: FreshClone) -> Iterator[Row]:
    code, seconds, output = clone.run("test", ["./scripts/test.sh", "--durations=25"])
    summary = find_summary(output)
    yield Row("second command, new home", "all tests pass", f"{summary}, exit code {code}", code == 0)
    has_vllm = "vllm: installed" in output
    limit = SUITE_SECONDS_WITH_VLLM if has_vllm else SUITE_SECONDS
    title = f"its time {'with' if has_vllm else 'without'} vLLM's installation"
    yield Row(title, f"{limit} s", f"{seconds:.0f} s", seconds <= limit)


def measure_without_network() -> Iterator[Row]:
    """Set up once, delete .venv, and set up again without a network."""
    what, asked = "set-up without network after .venv is deleted", "works from what is cached"
    unshare = shutil.which("unshare")
    can_cut_off = unshare and subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode == 0
    if not can_cut_off:
        yield Row(what, asked, "this machine cannot cut a process off the network", None)
        return
    with make_fresh_clone() as clone:
        script = ". scripts/environment.sh; install_from requirements-test.lock"
        first, seconds, _ = clone.run("first", ["bash", "-euc", script])
        yield Row("set-up with network, new home", "works", f"exit code {first}, {seconds:.1f} s", first == 0)
        shutil.rmtree(Path(clone.checkout) / ".venv", ignore_errors=True)
        again, seconds, _ = clone.run("again", [str(unshare), "-n", "bash", "-euc", script])
        yield Row(what, asked, f"exit code {again}, {seconds:.1f} s", again == 0)
