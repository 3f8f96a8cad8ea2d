"""The listening server's preparations."""

import sys
from pathlib import Path

import pytest

from penstock.serving.server import grow_descriptor_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the table from /proc")


def read_table_size() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("FDSize:"))


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_table_of_open_files_has_room_before_connections_come():
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(1000, limit)
    before = count_open_files()

    grow_descriptor_table(wanted)

    assert read_table_size() >= wanted
    assert count_open_files() == before


def test_a_size_beyond_the_limit_is_cut_to_the_limit():
    before = count_open_files()

    grow_descriptor_table(1 << 40)

    assert count_open_files() == before
