"""Agent chat as it happens (`POST /api/chat/stream`): server-sent events, each with a JSON object.

    start   {request_id, provider, model, server_used, fallback}   once, first; `warning`, `simulated` where so
    step    {step}                                                 what the agent says of its progress, or asks
    chunk   {content}                                              the answer's next piece; a model's `thinking`
    error   {code, message, status, retryable}                     `param`, `retry_after` where known
    end     {status: success|error, finish_reason}                 once, last, whatever happened; token counts

An error before the first event has the error's HTTP status and the same two last events as its body.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.dialects.agent_chat import request
from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.service import metadata
from penstock.domain.content import Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance

EVENTS = b"text/event-stream; charset=utf-8"


def event(name: str, **data: Any) -> bytes:
    """One event."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def render_error(error: PenstockError, request_id: str) -> bytes:
    """The events that tell of an error and end the stream."""
    fault = metadata.fault(request.plainly(error), request_id)
    told = event("error", **fault, status=error.status, retryable=error.retryable)
    return told + event("end", status="error", finish_reason=None)


@dataclass(slots=True)
class _Renderer:
    provenance: Provenance
    content_type: bytes = EVENTS
    _started: bool = False
    _last: dict[str, Any] = field(default_factory=lambda: {"status": "success", "finish_reason": None})

    def render_chunk(self, chunk: Chunk) -> bytes:
        out = self._start()
        if chunk.step:
            out += event("step", step=chunk.step)
        if chunk.thinking:
            out += event("chunk", content=chunk.text, thinking=chunk.thinking)
        elif text := chunk.text or chunk.refusal:
            out += event("chunk", content=text)
        if chunk.finish:
            self._last["finish_reason"] = chunk.finish
        if chunk.usage is not None:
            self._last |= metadata.tokens(ModelResponse(usage=chunk.usage))
        return out

    def render_end(self) -> bytes:
        return self._start() + event("end", **self._last)

    def render_error(self, error: PenstockError) -> bytes:
        return self._start() + render_error(error, self.provenance.request_id)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """The events of an answer that is already there."""
        choice = metadata.first(answer)
        pieces = [Chunk(step=step) for step in answer.steps]
        pieces.append(Chunk(choice.text, choice.thinking, finish=choice.finish, usage=answer.usage))
        return b"".join(map(self.render_chunk, pieces)) + self.render_end()

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        by = self.provenance
        told: dict[str, Any] = {
            "request_id": by.request_id,
            "provider": by.provider,
            "model": by.model,
            "server_used": by.server_url,
            "fallback": by.fallback,
        }
        if by.warning:
            told["warning"] = by.warning
        if by.simulated:
            told["simulated"] = True
        return event("start", **told)


class _End(msgspec.Struct):
    prompt_tokens: int
    response_tokens: int
    tokens_estimated: bool = False


_end = msgspec.json.Decoder(_End)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """`{content, expert_name?, model?, use_victoria?, mode?, chat_id?}`; server-sent events."""

    wire: str = "agent.stream"
    method: str = "POST"
    paths: tuple[str, ...] = ("/api/chat/stream",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        return request.call(self.wire, body, stream=True)

    def decode_content(self, call: Call) -> Content:
        return request.task(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        _, found, data = tail.rpartition(b"event: end\ndata: ")
        try:
            told = _end.decode(data.strip() if found else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Usage(told.prompt_tokens, told.response_tokens, estimated=told.tokens_estimated)

    def is_complete(self, tail: bytes) -> bool:
        return b"event: end\n" in tail and tail.endswith(b"\n\n")

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n\n" + render_error(error, "")


DIALECT = Dialect("agent_stream", (_Endpoint(),), render_error, prefixes=("/api/chat/stream",), media_type=EVENTS)
