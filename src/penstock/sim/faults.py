"""Faults of a simulated server, each with its probability, and the random choice of one for an exchange."""

import dataclasses
import difflib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

# Considered in this order, at most one an exchange.
KINDS = (
    "refuse",
    "hang_before",
    "status_429",
    "status_500",
    "status_503",
    "status_504",
    "garbage",
    "bad_json",
    "crash_before",
    "crash_middle",
    "hang_middle",
    "cut",
    "reset",
    "lie_short",
    "lie_long",
    "slow",
)
SCOPES = ("all", "generation", "probe")


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities, 0 to 1, of one fault per exchange, and their parameters.

    refuse: the connection is closed without an answer; at 1 the server stops listening.
    hang_before, hang_middle: no bytes before or in the middle of the response, for `hang_seconds` or until the client
        disconnects.
    cut, reset: the connection ends in the middle of the response, by FIN or by RST.
    garbage: bytes that are not HTTP. bad_json: valid HTTP whose body is not JSON.
    slow: `drip_seconds` between the pieces of the response.
    status_429, status_500, status_503, status_504: that status; 429 and 503 with `retry_after` seconds.
    crash_before, crash_middle: the engine reports a failure, in its own format, before or after the first token.
    lie_short, lie_long: the content-length is less than the body, or more (and the connection stays open).

    `scope` limits the faults to some requests: all, generation, or probe (the rest). They end after `seconds`.
    """

    refuse: float = 0.0
    hang_before: float = 0.0
    hang_middle: float = 0.0
    cut: float = 0.0
    reset: float = 0.0
    garbage: float = 0.0
    bad_json: float = 0.0
    slow: float = 0.0
    status_429: float = 0.0
    status_500: float = 0.0
    status_503: float = 0.0
    status_504: float = 0.0
    crash_before: float = 0.0
    crash_middle: float = 0.0
    lie_short: float = 0.0
    lie_long: float = 0.0
    hang_seconds: float = math.inf
    drip_seconds: float = 0.02
    retry_after: float = 1.0
    seconds: float = math.inf
    scope: str = "all"

    def __post_init__(self) -> None:
        for kind in KINDS:
            if not 0 <= getattr(self, kind) <= 1:
                raise ValueError(f"fault {kind}={getattr(self, kind)}: a probability from 0 to 1 is needed")
        for name in ("hang_seconds", "drip_seconds", "retry_after", "seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"fault setting {name}={getattr(self, name)}: seconds, 0 or more, are needed")
        if self.scope not in SCOPES:
            raise ValueError(f"fault scope {self.scope!r}: one of {', '.join(SCOPES)} is needed")

    def choose_fault(self, dice: random.Random, *, generating: bool, refusing: bool) -> str | None:
        """Choose the fault of this exchange, or None.

        `refusing` is False when `refuse` has been considered already, as the connection was accepted.
        """
        if self.scope != "all" and (self.scope == "generation") != generating:
            return None
        for kind in KINDS:
            chance = getattr(self, kind)
            if chance and (refusing or kind != "refuse") and dice.random() < chance:
                return kind
        return None

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Parse `refuse=0.1,cut=0.05,scope=generation`; a name alone means 1.

        Raises ValueError, which suggests the nearest name.
        """
        values: dict[str, object] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            values[name.strip()] = value.strip() or "1"
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> "Faults":
        """Create faults from names and numbers (or text). Raises ValueError for an unknown name or an invalid value."""
        names = [known.name for known in dataclasses.fields(cls)]
        taken: dict[str, float | str] = {}
        for name, value in values.items():
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ValueError(
                    f"unknown fault {name!r}"
                    + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(names)}")
                )
            taken[name] = str(value) if name == "scope" else _parse_number(name, value)
        return cls(**taken)  # type: ignore[arg-type]  # every value has just been parsed by its name

    def as_mapping(self) -> dict[str, float | str | None]:
        """Return the settings by name; an infinite time is None."""
        return {name: None if value == math.inf else value for name, value in dataclasses.asdict(self).items()}


def _parse_number(name: str, value: object) -> float:
    if value is None:
        return math.inf
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except ValueError:
            pass
    raise ValueError(f"fault {name}={value!r}: a number is needed")
