"""Agent chat: a message to Victoria, or to MLX as fallback, answered with a text (`send`) or a plan (`plan`).

Errors are RFC 9457 problem details.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.agent_chat.request import explain_error, parse_call, parse_task
from penstock.dialects.base import Dialect, Renderer, UnstreamedRenderer
from penstock.dialects.problem_details import render_problem
from penstock.dialects.service import metadata
from penstock.dialects.service.unstreamed import UnstreamedEndpoint
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import ModelResponse


def render_error(error: PenstockError, request_id: str) -> bytes:
    """Render problem details with a message for the user of the chat."""
    return render_problem(explain_error(error), request_id)


@dataclass(frozen=True, slots=True)
class _Renderer(UnstreamedRenderer):
    """Renderer of one body; `field` is the member with the text."""

    field: str
    request_id: str

    def render_error(self, error: PenstockError) -> bytes:
        return render_error(error, self.request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        choice = metadata.first_choice(response)
        text = choice.text or choice.refusal or (response.steps[-1] if response.steps else "")
        body: dict[str, Any] = {
            "status": "success",
            self.field: text,
            "steps": response.steps,
            "model": provenance.model,
            "provider": provenance.provider,
        }
        if choice.thinking:
            body["thinking"] = choice.thinking
        if provenance.warning:
            body["warning"] = provenance.warning
        body["metadata"] = metadata.build_metadata(provenance, response) | metadata.build_token_counts(response)
        body["timestamp"] = metadata.format_completion_time(provenance)
        return msgspec.json.encode(body)


@dataclass(frozen=True, slots=True)
class _Endpoint(UnstreamedEndpoint):
    """Endpoint of `{content, expert_name?, model?, use_victoria?, mode?, chat_id?}`."""

    wire: str
    paths: tuple[str, ...]
    field: str
    plan: bool = False
    method: str = "POST"

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        return parse_call(self.wire, body, plan=self.plan)

    def decode_content(self, call: Call) -> Content:
        return parse_task(call.body, self.plan)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(self.field, provenance.request_id)

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
