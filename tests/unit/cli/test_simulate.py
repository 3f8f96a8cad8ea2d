"""The kinds of simulated server that the command line offers."""

from penstock.cli.simulate import list_kinds
from penstock.sim.kinds import KINDS


def test_the_command_line_lists_exactly_the_kinds_that_can_be_simulated() -> None:
    assert list_kinds() == sorted(KINDS)
