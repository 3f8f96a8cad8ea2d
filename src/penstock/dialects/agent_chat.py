"""Agent chat: a message for Victoria, with MLX in reserve, answered whole (`send`) or with a plan (`plan`).

Errors are RFC 9457 problem details. `status` and `models` draw the surface's two pages about itself.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from penstock.dialects import agent_chat_task, service_answer
from penstock.dialects.base import Dialect, Writer
from penstock.dialects.service_models import entries
from penstock.dialects.service_views import address, trouble
from penstock.domain.answer import Answer, Chunk, Usage
from penstock.domain.call import Call, Provenance
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Fleet, ServerStatus, State


def problem(error: PenstockError, request_id: str) -> bytes:
    """An error as RFC 9457 problem details, with its code beside."""
    fault = service_answer.fault(error, request_id)
    detail = fault.pop("message")
    try:
        title = HTTPStatus(error.status).phrase
    except ValueError:
        title = "Error"
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": error.status, "detail": detail} | fault
    )


def failure(error: PenstockError, request_id: str) -> bytes:
    """The same in a person's words."""
    return problem(agent_chat_task.plainly(error), request_id)


@dataclass(frozen=True, slots=True)
class _Writer:
    """`field` names the place of the answer's text."""

    field: str
    request_id: str
    content_type: bytes = b"application/json"

    def chunk(self, chunk: Chunk) -> bytes:
        return b""

    def close(self) -> bytes:
        return b""

    def error(self, error: PenstockError) -> bytes:
        return failure(error, self.request_id)

    def whole(self, answer: Answer, provenance: Provenance) -> bytes:
        choice = service_answer.first(answer)
        text = choice.text or choice.refusal or (answer.steps[-1] if answer.steps else "")
        drawn: dict[str, Any] = {
            "status": "success",
            self.field: text,
            "steps": answer.steps,
            "model": provenance.model,
            "provider": provenance.provider,
        }
        if choice.thinking:
            drawn["thinking"] = choice.thinking
        if provenance.warning:
            drawn["warning"] = provenance.warning
        drawn["metadata"] = service_answer.metadata(provenance, answer) | service_answer.tokens(answer)
        drawn["timestamp"] = service_answer.stamp_answer(provenance)
        return msgspec.json.encode(drawn)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """`{content, expert_name?, model?, use_victoria?, mode?, chat_id?}`; one whole answer, or a plan."""

    wire: str
    paths: tuple[str, ...]
    field: str
    plan: bool = False
    method: str = "POST"

    def read(self, body: bytes, content_type: bytes) -> Call:
        return agent_chat_task.call(self.wire, body, plan=self.plan)

    def decode(self, call: Call) -> Content:
        return agent_chat_task.task(call.body, self.plan)

    def writer(self, call: Call, provenance: Provenance) -> Writer:
        return _Writer(self.field, provenance.request_id)

    def usage(self, tail: bytes, streamed: bool) -> Usage | None:
        return service_answer.usage(tail)

    def ended(self, tail: bytes) -> bool:
        return tail.rstrip().endswith(b"}")

    def broken(self, error: PenstockError) -> bytes:
        return b"\n" + failure(error, "")


def status(fleet: Fleet) -> bytes:
    """`GET /api/chat/status`: of each link of the chain whether it can be asked, and where it is."""
    return msgspec.json.encode({kind: _link(fleet, kind) for kind in agent_chat_task.CHAIN})


def models(fleet: Fleet) -> bytes:
    """`GET /api/chat/models`: the models that MLX has; the agent chooses its own."""
    reserve = agent_chat_task.CHAIN[-1]
    found = entries(each for each in fleet.statuses if each.server.kind == reserve and each.up)
    return msgspec.json.encode({"models": found, "total_count": len(found)})


def _link(fleet: Fleet, kind: str) -> dict[str, Any]:
    mine = [each for each in fleet.statuses if each.server.kind == kind]
    if not mine:
        return {"status": "disabled", "url": None}
    best = min(mine, key=_readiness)
    drawn: dict[str, Any] = {
        "status": ("healthy", "degraded", "unhealthy")[_readiness(best)],
        "url": address(best),
        "models": [model.name for model in best.models],
        "response_time_ms": round(best.response_time * 1000, 1) if best.up else None,
    }
    if not best.up:
        told = trouble(best)
        drawn |= {"error": told["error"], "what_to_do": told["what_to_do"]}
    return drawn | ({"simulated": True} if best.server.simulated else {})


def _readiness(each: ServerStatus) -> int:
    """0: can be asked; 1: soon; 2: cannot."""
    return {State.UP: 0, State.LOADING: 1}.get(each.state, 2)


DIALECT = Dialect(
    "agent",
    (
        _Endpoint("agent.send", ("/api/chat/send",), "content"),
        _Endpoint("agent.plan", ("/api/chat/plan",), "plan", plan=True),
    ),
    failure,
    prefixes=("/api/chat/",),
    media_type=b"application/problem+json",
)
