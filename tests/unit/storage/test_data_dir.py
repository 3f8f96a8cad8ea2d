"""Lock of the data folder: one gateway at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.storage.data_dir import PID_FILE, DataDirInUseError, claim_data_dir, find_running_pid

HOLD = """
import sys
from pathlib import Path
from penstock.storage.data_dir import claim_data_dir
with claim_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_missing_folder_has_no_running_gateway(tmp_path: Path) -> None:
    assert find_running_pid(tmp_path / "none") is None


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with claim_data_dir(folder):
        assert folder.is_dir()
        if os.name == "posix":
            assert folder.stat().st_mode & 0o777 == 0o700


def test_the_process_that_holds_a_folder_is_found(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert find_running_pid(tmp_path / "data") == holder.pid


def test_a_second_gateway_on_the_folder_is_refused_with_what_to_do(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(DataDirInUseError, match=f"process {holder.pid}.*PENSTOCK_DATA_DIR"),
        claim_data_dir(tmp_path / "data"),
    ):
        pass
    assert find_running_pid(tmp_path / "data") == holder.pid


def test_a_killed_gateway_leaves_the_folder_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()
    assert (tmp_path / "data" / PID_FILE).read_text(encoding="ascii") == f"{holder.pid}\n"
    assert find_running_pid(tmp_path / "data") is None
    with claim_data_dir(tmp_path / "data"):
        assert (tmp_path / "data" / PID_FILE).read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_a_gateway_that_ends_leaves_no_number_behind(tmp_path: Path) -> None:
    with claim_data_dir(tmp_path):
        pass
    assert (tmp_path / PID_FILE).read_text(encoding="ascii") == ""
    assert find_running_pid(tmp_path) is None


def test_finding_the_process_does_not_release_its_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert {find_running_pid(tmp_path / "data") for _ in range(5)} == {holder.pid}
