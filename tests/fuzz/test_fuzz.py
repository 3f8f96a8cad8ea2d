"""A short run of the fuzzer; `scripts/fuzz --cases N` makes long ones."""

from pathlib import Path

from tests.fuzz.fuzzer import run_cases

SEED = 1
CASES = 1500


async def test_nothing_that_strangers_send_makes_the_gateway_fail(tmp_path: Path):
    report = await run_cases(tmp_path, SEED, CASES)
    assert not report.findings, "\n".join(report.findings)
    assert sum(report.statuses.values()) == CASES
