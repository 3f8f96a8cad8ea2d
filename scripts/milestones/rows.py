"""One line of a milestone's table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement beside the requirement; `is_met` is None where it could not be measured."""

    what: str
    asked: str
    measured: str
    is_met: bool | None
