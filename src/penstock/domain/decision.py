"""Which deployments may answer a call, in the order to try them, and why.

Nobody changes one of these once it is made; those that every call makes are not frozen by name.
"""

from dataclasses import dataclass

from penstock.domain.fleet import Deployment


@dataclass(frozen=True, slots=True)
class Reason:
    """One signal's say: its name, a score in [0, 1], and a few words."""

    signal: str
    score: float
    text: str = ""


@dataclass(slots=True, unsafe_hash=True)
class Candidate:
    """A deployment with its scores. `warning` is what to tell if it answers though it is not what was asked for."""

    deployment: Deployment
    score: float
    reasons: tuple[Reason, ...] = ()
    warning: str = ""


@dataclass(slots=True, unsafe_hash=True)
class Decision:
    """Candidates, best first. `warning` is set when the first is not what was asked for."""

    candidates: tuple[Candidate, ...]
    reason: str = ""
    warning: str = ""
    fallback: bool = False
