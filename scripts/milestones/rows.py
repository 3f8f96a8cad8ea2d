"""One line of a milestone's table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured beside what was asked; `is_met` is None where it could not be measured."""

    what: str
    asked: str
    measured: str
    is_met: bool | None
