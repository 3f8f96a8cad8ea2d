"""Which deployments may answer a call, in the order to try them, and why.

Nobody changes one of these once it is made; those that every call makes are not frozen by name.
"""

from dataclasses import dataclass

from penstock.domain.fleet import Deployment


@dataclass(frozen=True, slots=True)
class Reason:
    """One signal's say: its name, what it costs in seconds (less than 0: it saves), and a few words."""

    signal: str
    cost: float
    text: str = ""


@dataclass(slots=True, unsafe_hash=True)
class Candidate:
    """A deployment and what it would cost the caller: seconds to the first token, and what else counts, as seconds.

    Candidates of a lower `tier` come first whatever they cost: 0 fits; 1 fits, in reserve; 2 and 3 are lesser models;
    4 and more are down or left alone. `warning` is what to tell if it answers though it is not what was asked for.
    `size_class` is the model's class (fast, balanced, powerful) where the gateway chose it.
    """

    deployment: Deployment
    cost: float = 0.0
    tier: int = 0
    reasons: tuple[Reason, ...] = ()
    warning: str = ""
    size_class: str = ""

    @property
    def score(self) -> float:
        """The same for people, in (0, 1], the more the better."""
        return 1.0 / (1.0 + max(0.0, self.cost)) / (1 + self.tier)


@dataclass(slots=True, unsafe_hash=True)
class Decision:
    """Candidates, best first. `warning` is set when the first is not what was asked for.

    `level` and `task_type` are words, and empty where the caller named a model: then nobody judged the request.
    """

    candidates: tuple[Candidate, ...]
    reason: str = ""
    warning: str = ""
    fallback: bool = False
    level: str = ""
    task_type: str = ""
