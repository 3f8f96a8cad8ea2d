"""Routing decisions: the deployments that may answer a call, in the order to try them, and the reasons.

All of these are immutable by convention. `Candidate` and `Decision` are created for every call, and a frozen dataclass
takes twice as long to create.
"""

import enum
from dataclasses import dataclass

from penstock.domain.fleet import Deployment

_RESERVE, _LESSER, _UNAVAILABLE = 1, 2, 4
_LABELS = ("fits", "fits, in reserve", "lesser", "lesser, in reserve")


class Tier(enum.IntEnum):
    """Rank of a candidate. Candidates of a lower tier come first, whatever they cost.

    FITS: the model suits the request, or was asked for by name. LESSER: a simpler model than the request needs.
    RESERVE: on a FALLBACK server. UNAVAILABLE: the server is down, or a circuit breaker blocks it.
    """

    FITS = 0
    FITS_RESERVE = _RESERVE
    LESSER = _LESSER
    LESSER_RESERVE = _LESSER | _RESERVE
    FITS_UNAVAILABLE = _UNAVAILABLE
    FITS_RESERVE_UNAVAILABLE = _UNAVAILABLE | _RESERVE
    LESSER_UNAVAILABLE = _UNAVAILABLE | _LESSER
    LESSER_RESERVE_UNAVAILABLE = _UNAVAILABLE | _LESSER | _RESERVE

    @classmethod
    def classify(cls, *, is_lesser: bool, is_reserve: bool, is_available: bool) -> "Tier":
        """Return the tier with these properties."""
        return cls(_LESSER * is_lesser | _RESERVE * is_reserve | _UNAVAILABLE * (not is_available))

    @property
    def is_lesser(self) -> bool:
        """Return whether the model is simpler than the request needs."""
        return bool(self & _LESSER)

    @property
    def is_available(self) -> bool:
        """Return whether the server is up and no circuit breaker blocks it."""
        return self < _UNAVAILABLE

    @property
    def as_unavailable(self) -> "Tier":
        """Return the same tier for a server that is unavailable."""
        return Tier(self | _UNAVAILABLE)

    @property
    def label(self) -> str:
        """Return the tier as people read it: `lesser, in reserve, away`."""
        label = _LABELS[self & ~_UNAVAILABLE]
        return label if self.is_available else f"{label}, away"


@dataclass(frozen=True, slots=True)
class Reason:
    """One cost of a candidate: its name, its seconds (negative: it saves time), and an explanation for people."""

    signal: str
    cost: float
    text: str = ""


@dataclass(slots=True)
class Candidate:
    """A deployment and its cost in seconds: the expected time to the first token, plus preferences.

    `warning` is shown to the caller if this candidate answers although it is not what the caller asked for.
    `size_class` is fast, balanced or powerful if the gateway chose the model, else empty.
    """

    deployment: Deployment
    cost: float = 0.0
    tier: Tier = Tier.FITS
    reasons: tuple[Reason, ...] = ()
    warning: str = ""
    size_class: str = ""

    @property
    def score(self) -> float:
        """The cost and tier as a score for people, in (0, 1]; higher is better."""
        return 1.0 / (1.0 + max(0.0, self.cost)) / (1 + self.tier)


@dataclass(slots=True)
class Decision:
    """Candidates, best first. `warning` is set if the first is not what the caller asked for.

    `level` and `task_type` are empty if the caller named a model: the request was not classified then.
    """

    candidates: tuple[Candidate, ...]
    reason: str = ""
    warning: str = ""
    fallback: bool = False
    level: str = ""
    task_type: str = ""
