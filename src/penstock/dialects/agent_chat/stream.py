"""`POST /api/chat/stream`: agent chat as server-sent events, each with a JSON object.

    start   {request_id, provider, model, server_used, fallback}   once, first; `warning` and `simulated` if they apply
    step    {step}                                                 progress of the agent, or its question
    chunk   {content}                                              the next piece of the text; `thinking` of a model
    error   {code, message, status, retryable}                     `param`, `retry_after` if known
    end     {status: success|error, finish_reason}                 once, last, in any case; token counts

An error before the first event is a response with the error's HTTP status and the last two events as its body.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.dialects.agent_chat.request import explain_error, parse_call, parse_task
from penstock.dialects.base import EVENT_STREAM, Dialect, Renderer
from penstock.dialects.service import metadata
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Chunk, ModelResponse, Usage


def render_event(name: str, **data: Any) -> bytes:
    """Render one event."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def render_error(error: PenstockError, request_id: str) -> bytes:
    """Render the events that report an error and end the stream."""
    fields = metadata.build_error_fields(explain_error(error), request_id)
    error_event = render_event("error", **fields, status=error.status, retryable=error.retryable)
    return error_event + render_event("end", status="error", finish_reason=None)


@dataclass(slots=True)
class _Renderer:
    provenance: Provenance
    content_type: bytes = EVENT_STREAM
    _has_started: bool = False
    _end_fields: dict[str, Any] = field(default_factory=lambda: {"status": "success", "finish_reason": None})

    def render_chunk(self, chunk: Chunk) -> bytes:
        events = self._start_once()
        if chunk.step:
            events += render_event("step", step=chunk.step)
        if chunk.thinking:
            events += render_event("chunk", content=chunk.text, thinking=chunk.thinking)
        elif text := chunk.text or chunk.refusal:
            events += render_event("chunk", content=text)
        if chunk.finish:
            self._end_fields["finish_reason"] = chunk.finish
        if chunk.usage is not None:
            self._end_fields |= metadata.build_token_counts(ModelResponse(usage=chunk.usage))
        return events

    def render_end(self) -> bytes:
        return self._start_once() + render_event("end", **self._end_fields)

    def render_error(self, error: PenstockError) -> bytes:
        return self._start_once() + render_error(error, self.provenance.request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the events of a complete response."""
        choice = metadata.first_choice(response)
        pieces = [Chunk(step=step) for step in response.steps]
        pieces.append(Chunk(choice.text, choice.thinking, finish=choice.finish, usage=response.usage))
        return b"".join(map(self.render_chunk, pieces)) + self.render_end()

    def _start_once(self) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        provenance = self.provenance
        fields: dict[str, Any] = {
            "request_id": provenance.request_id,
            "provider": provenance.provider,
            "model": provenance.model,
            "server_used": provenance.server_url,
            "fallback": provenance.is_fallback,
        }
        if provenance.warning:
            fields["warning"] = provenance.warning
        if provenance.is_simulated:
            fields["simulated"] = True
        return render_event("start", **fields)


class _EndFields(msgspec.Struct):
    prompt_tokens: int
    response_tokens: int
    tokens_estimated: bool = False


_end_decoder = msgspec.json.Decoder(_EndFields)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Endpoint of `{content, expert_name?, model?, use_victoria?, mode?, chat_id?}`."""

    wire: str = "agent.stream"
    method: str = "POST"
    paths: tuple[str, ...] = ("/api/chat/stream",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        return parse_call(self.wire, body, stream=True)

    def decode_content(self, call: Call) -> Content:
        return parse_task(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        _, found, data = tail.rpartition(b"event: end\ndata: ")
        try:
            counts = _end_decoder.decode(data.strip() if found else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Usage(counts.prompt_tokens, counts.response_tokens, estimated=counts.tokens_estimated)

    def is_complete(self, tail: bytes) -> bool:
        return b"event: end\n" in tail and tail.endswith(b"\n\n")

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n\n" + render_error(error, "")


DIALECT = Dialect("agent_stream", (_Endpoint(),), render_error, prefixes=("/api/chat/stream",), media_type=EVENT_STREAM)
