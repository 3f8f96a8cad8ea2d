"""Response bodies that explain routing: a decision made on request (`/api/route`), and the last ones made."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from penstock.api.models.views import display_name
from penstock.dialects.timestamps import format_timestamp
from penstock.domain.complexity import Level, RequestProfile
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Call
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.observers.decision_log import DecisionRecord

SERVICE, CHAT = "service.routed", "openai.chat"
"""Wire formats of a request to explain."""
MAX_CANDIDATES = 5
"""Number of candidates rendered for each recorded decision."""
MAX_NAME_LENGTH = 200
"""Characters of a model name sent by a caller."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_question(body: bytes) -> tuple[str, bytes]:
    """Return the wire format of a request to explain, and its body in that format.

    It is a body of `POST /api/v1/chat`, where `text` is accepted for `message`; or, with `messages`, a body of
    `POST /v1/chat/completions`. Raises InvalidRequest; other errors are left to the parser of the wire format.
    """
    try:
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return SERVICE, body
    if "messages" in fields:
        if others := {"message", "text"} & set(fields):
            raise InvalidRequest(f"Send `messages` or `{min(others)}`, not both.", param=min(others))
        return CHAT, body
    if "text" in fields:
        if "message" in fields:
            raise InvalidRequest("Send `message` or `text`, not both.", param="text")
        fields["message"] = fields.pop("text")
        if not _is_text(fields["message"]):
            raise InvalidRequest("`text` must be a non-empty string.", param="text")
        return SERVICE, msgspec.json.encode(fields)
    return SERVICE, body


def _is_text(raw: msgspec.Raw) -> bool:
    try:
        return bool(msgspec.json.decode(raw, type=str).strip())
    except msgspec.ValidationError:
        return False


def render_explanation(
    decision: Decision, call: Call, profile: RequestProfile | None, wait_signals: AbstractSet[str]
) -> bytes:
    """Render `POST /api/route`.

    `profile` is None where a model is named. `wait_signals` are the signals whose seconds pass before the first token.
    """
    first = decision.candidates[0].deployment
    body: dict[str, Any] = {
        "success": True,
        "complexity_level": decision.level or (profile.level.label if profile else None),
        "task_type": decision.task_type or (profile.task_type.value if profile else None),
        "scores": {level.label: round(profile.scores[level], 4) for level in Level} if profile else None,
        "model": display_name(first.model.name),
        "server": first.server.name,
        "provider": first.server.kind,
        "requested_model": _cut_name(call.model),
        "reason": decision.reason,
        "warning": decision.warning or None,
        "fallback": decision.fallback,
        "candidates": [_render_scored_candidate(candidate, wait_signals) for candidate in decision.candidates],
    }
    return msgspec.json.encode(body | ({"simulated": True} if first.server.is_simulated else {}))


def render_decision(record: DecisionRecord, started_at: float) -> dict[str, Any]:
    """Render a recorded decision; `started_at` is the arrival of its call, in seconds since the epoch."""
    decision = record.decision
    first = decision.candidates[0]
    deployment = record.deployment or first.deployment
    answered = next((each for each in decision.candidates if each.deployment is deployment), first)
    return {
        "time": f"{format_timestamp(started_at)}.{int(started_at * 1000) % 1000:03d}",
        "request_id": record.request_id.decode("latin-1"),
        "wire": record.wire,
        "requested_model": _cut_name(record.requested_model),
        "complexity_level": decision.level or None,
        "task_type": decision.task_type or None,
        "model": display_name(deployment.model.name),
        "server": deployment.server.name,
        "provider": deployment.server.kind,
        "reason": decision.reason,
        "warning": answered.warning or decision.warning or None,
        "fallback": decision.fallback or record.attempts > 1,
        "attempts": record.attempts,
        "outcome": record.code,
        "candidates": [_render_candidate(candidate) for candidate in decision.candidates[:MAX_CANDIDATES]],
    }


def render_history(decisions: Iterable[dict[str, Any]], total: int, now: float) -> bytes:
    """Render `GET /api/decisions`: some of `total` recorded decisions; `now` is in seconds since the epoch."""
    return msgspec.json.encode({"decisions": list(decisions), "total": total, "timestamp": format_timestamp(now)})


def _cut_name(model: str) -> str | None:
    return model[:MAX_NAME_LENGTH] or None


def _render_candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "model": display_name(candidate.deployment.model.name),
        "server": candidate.deployment.server.name,
        "class": candidate.size_class or None,
        "score": round(candidate.score, 4),
        "cost_seconds": round(candidate.cost, 3),
        "tier": int(candidate.tier),
        "standing": candidate.tier.label,
    }


def _render_scored_candidate(candidate: Candidate, wait_signals: AbstractSet[str]) -> dict[str, Any]:
    """Render a candidate with its reasons, most expensive first."""
    first_token = sum(reason.cost for reason in candidate.reasons if reason.signal in wait_signals)
    reasons = sorted(candidate.reasons, key=lambda reason: -abs(reason.cost))
    return _render_candidate(candidate) | {
        "expected_first_token_seconds": round(first_token, 3) if reasons else None,
        "warning": candidate.warning or None,
        "reasons": [
            {"signal": reason.signal, "cost_seconds": round(reason.cost, 3), "text": reason.text} for reason in reasons
        ],
    }
