"""Agent chat: a message for Victoria, with MLX in reserve, answered whole (`send`) or with a plan (`plan`).

Errors are RFC 9457 problem details.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.agent_chat import request
from penstock.dialects.base import Dialect, Writer
from penstock.dialects.problem_details import problem
from penstock.dialects.service import metadata
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Provenance
from penstock.domain.response import Answer, Chunk, Usage


def failure(error: PenstockError, request_id: str) -> bytes:
    """The same in a person's words."""
    return problem(request.plainly(error), request_id)


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
        choice = metadata.first(answer)
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
        drawn["metadata"] = metadata.metadata(provenance, answer) | metadata.tokens(answer)
        drawn["timestamp"] = metadata.stamp_answer(provenance)
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
        return request.call(self.wire, body, plan=self.plan)

    def decode(self, call: Call) -> Content:
        return request.task(call.body, self.plan)

    def writer(self, call: Call, provenance: Provenance) -> Writer:
        return _Writer(self.field, provenance.request_id)

    def usage(self, tail: bytes, streamed: bool) -> Usage | None:
        return metadata.usage(tail)

    def ended(self, tail: bytes) -> bool:
        return tail.rstrip().endswith(b"}")

    def broken(self, error: PenstockError) -> bytes:
        return b"\n" + failure(error, "")


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
