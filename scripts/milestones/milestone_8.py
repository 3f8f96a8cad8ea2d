"""A set-up that works on every machine, any day; names and shapes that an engineer of the field expects."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fresh_clone import CHECKOUT, FreshClone, find_namespace, make_fresh_clone
from rows import Row

sys.path.insert(0, str(CHECKOUT))
sys.path.insert(0, str(CHECKOUT / "scripts" / "lints"))

from measures import measure_source
from tests.support.decoys import PORTS

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


def measure_names_and_shapes() -> Iterator[Row]:
    """Count names, docstrings, arguments and imports over the source."""
    found = measure_source()
    yield _at_most("files in prefix families", 4, found.family_files)
    yield _at_most("one-word function names, %", 40, round(found.one_word_percent))
    yield _at_most("bare participles as functions", 0, found.bare_participles)
    yield _at_most("docstrings that open with a relative clause", 0, found.relative_docstrings)
    yield _at_most("calls with more than 6 positional arguments", 3, found.long_calls)
    yield _at_most("import fan-out of a module of app", 20, found.max_fan_out("app/"))
    yield _at_most("import fan-out of failover", 12, found.max_fan_out("gateway/upstream/failover.py"))
    yield _at_most("import fan-out of the pipeline", 12, found.max_fan_out("gateway/pipeline.py"))
    yield _at_most("lines of the longest module", 400, found.max_module_lines)
    yield _at_most("lines of the longest function", 50, found.max_function_lines)


def measure_cycles() -> Iterator[Row]:
    """Check the contracts of import-linter, and that none has an exemption."""
    done = subprocess.run(
        [CHECKOUT / ".venv" / "bin" / "lint-imports", "--no-logo"], cwd=CHECKOUT, capture_output=True, check=False
    )
    exemptions = (CHECKOUT / ".importlinter").read_text("utf-8").count("ignore_imports")
    measured = f"exit code {done.returncode}, {exemptions} exemptions"
    yield Row("import-linter", "no cycle, no exemption", measured, (done.returncode, exemptions) == (0, 0))


def _at_most(what: str, limit: int, measured: int) -> Row:
    return Row(what, f"at most {limit}" if limit else "0", str(measured), measured <= limit)


def measure_fresh_clone() -> Iterator[Row]:
    """Run both commands of the README in a fresh clone with a new home, the second beside decoys.

    Where Linux allows it the decoys are in a network namespace of their own, together with the tests.
    """
    with make_fresh_clone() as clone:
        yield _start("first command, new home", clone)
        code, set_up, output = clone.run("set-up", ["./scripts/test.sh", "--set-up"])
        yield Row("set-up of the second command", "exit code 0", f"exit code {code}, {set_up:.0f} s", code == 0)
        command = [sys.executable, str(Path(__file__).with_name("beside_decoys.py")), str(clone.folder)]
        done = subprocess.run(
            [*find_namespace(), *command], env=dict(clone.variables), stdout=subprocess.PIPE, check=True
        )
        beside = json.loads(done.stdout)
        yield Row("first command beside decoys", *_judge_start(*beside["start"]))
        code, seconds, summary = beside["test"]
        yield Row("second command beside decoys", "all tests pass", f"{summary}, exit code {code}", code == 0)
        has_vllm = "vllm: installed" in output
        limit = SUITE_SECONDS_WITH_VLLM if has_vllm else SUITE_SECONDS
        title = f"second command in all, {'with' if has_vllm else 'without'} vLLM's installation"
        yield Row(title, f"{limit} s", f"{set_up + seconds:.0f} s", set_up + seconds <= limit)
        visits, ports = beside["visits"], ", ".join(map(str, PORTS))
        measured = f"{len(visits)} {visits[:3] if visits else ''}".strip()
        yield Row(f"visits at decoys on {ports} during the tests", "0", measured, not visits)


def _start(title: str, clone: FreshClone) -> Row:
    return Row(title, *_judge_start(*clone.start("start")))


def _judge_start(status: int, seconds: float, exit_code: int) -> tuple[str, str, bool]:
    measured = f"/health {status} after {seconds:.1f} s, exit code {exit_code}"
    return "/health 200, Ctrl-C ends it with 0", measured, (status, exit_code) == (200, 0)


def measure_without_network() -> Iterator[Row]:
    """Set up once, delete .venv, and set up again without a network."""
    what, asked = "set-up without network after .venv is deleted", "works from what is cached"
    namespace = find_namespace()
    if not namespace:
        yield Row(what, asked, "this machine cannot cut a process off the network", None)
        return
    with make_fresh_clone() as clone:
        script = ". scripts/environment.sh; install_from requirements-test.lock"
        first, seconds, _ = clone.run("first", ["bash", "-euc", script])
        yield Row("set-up with network, new home", "works", f"exit code {first}, {seconds:.1f} s", first == 0)
        shutil.rmtree(Path(clone.checkout) / ".venv", ignore_errors=True)
        again, seconds, _ = clone.run("again", [*namespace, "bash", "-euc", script])
        yield Row(what, asked, f"exit code {again}, {seconds:.1f} s", again == 0)
