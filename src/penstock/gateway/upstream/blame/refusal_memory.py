"""Memory of what deployments refused, so that the next request of that sort goes to another one first. Bounded.

Nothing is excluded by it, only asked last: a server may have been started anew with other abilities. Pure: times are
monotonic seconds.
"""

from dataclasses import dataclass, field

from penstock.domain.errors import ContextLengthExceeded, PenstockError, Unsupported
from penstock.domain.fleet import Deployment
from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate

TTL = 600.0
MAX_DEPLOYMENTS = 1024

_MARKS: dict[str, tuple[bytes, ...]] = {
    "tool": (b'"tools"', b'"functions"'),
    "function": (b'"tools"', b'"functions"'),
    "image": (b'"image_url"', b'"images"', b'"input_image"', b'"image"'),
    "multimodal": (b'"image_url"', b'"images"', b'"input_image"', b'"image"', b'"input_audio"'),
    "mmproj": (b'"image_url"', b'"images"', b'"input_image"', b'"image"'),
    "audio": (b'"input_audio"',),
    "logprobs": (b'"logprobs"',),
}
"""Words in a refusal, and what bodies of requests that need the ability contain."""


@dataclass(slots=True)
class _Refusals:
    """Refusals of one deployment until `expires_at`: bodies of `min_bytes` and more, and those with any of `marks`."""

    expires_at: float
    min_bytes: float = float("inf")
    marks: set[bytes] = field(default_factory=set)

    def covers(self, body: bytes) -> bool:
        return len(body) >= self.min_bytes or any(mark in body for mark in self.marks)


class RefusalMemory:
    """Refusals by server and model."""

    def __init__(self) -> None:
        self.refusals: dict[tuple[str, str], _Refusals] = {}

    def add(self, call: Call, deployment: Deployment, error: PenstockError, now: float) -> None:
        """Remember that a deployment refused a request by an error that blames the deployment."""
        marks: set[bytes] = set()
        if isinstance(error, Unsupported):
            message = error.message.lower()
            marks = {mark for word, marks in _MARKS.items() if word in message for mark in marks if mark in call.body}
        is_too_long = isinstance(error, ContextLengthExceeded)
        if not marks and not is_too_long:
            return
        key = (deployment.server.name, deployment.model.name)
        known = self.refusals.pop(key, None) or _Refusals(0.0)
        while len(self.refusals) >= MAX_DEPLOYMENTS:
            del self.refusals[next(iter(self.refusals))]
        known.expires_at = now + TTL
        known.marks |= marks
        if is_too_long:
            known.min_bytes = min(known.min_bytes, len(call.body))
        self.refusals[key] = known

    def sort_candidates(self, call: Call, candidates: tuple[Candidate, ...], now: float) -> tuple[Candidate, ...]:
        """Return the candidates, of each model those last that refused such a request."""
        models: dict[str, int] = {}
        keys = []
        for candidate in candidates:
            deployment = candidate.deployment
            order = models.setdefault(deployment.model.name, len(models))
            keys.append((order, self._covers(call, deployment, now)))
        if not any(is_covered for _, is_covered in keys):
            return candidates
        return tuple(candidates[index] for index in sorted(range(len(candidates)), key=keys.__getitem__))

    def _covers(self, call: Call, deployment: Deployment, now: float) -> bool:
        key = (deployment.server.name, deployment.model.name)
        known = self.refusals.get(key)
        if known is None:
            return False
        if now >= known.expires_at:
            del self.refusals[key]
            return False
        return known.covers(call.body)
