"""Agent chat: a message for Victoria, with MLX in reserve, answered whole (`send`) or with a plan (`plan`).

Errors are RFC 9457 problem details.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.agent_chat import request
from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.problem_details import problem
from penstock.dialects.service import metadata
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


def render_error(error: PenstockError, request_id: str) -> bytes:
    """The same in a person's words."""
    return problem(request.plainly(error), request_id)


@dataclass(frozen=True, slots=True)
class _Renderer:
    """`field` names the place of the answer's text."""

    field: str
    request_id: str
    content_type: bytes = b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        return b""

    def render_end(self) -> bytes:
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        return render_error(error, self.request_id)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
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

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        return request.call(self.wire, body, plan=self.plan)

    def decode_content(self, call: Call) -> Content:
        return request.task(call.body, self.plan)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(self.field, provenance.request_id)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        return metadata.usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        return tail.rstrip().endswith(b"}")

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n" + render_error(error, "")


DIALECT = Dialect(
    "agent",
    (
        _Endpoint("agent.send", ("/api/chat/send",), "content"),
        _Endpoint("agent.plan", ("/api/chat/plan",), "plan", plan=True),
    ),
    render_error,
    prefixes=("/api/chat/",),
    media_type=b"application/problem+json",
)
