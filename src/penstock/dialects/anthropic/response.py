"""Draws answers as Anthropic's Messages API does: https://docs.anthropic.com/en/docs/build-with-claude/streaming."""

from typing import Any

import msgspec

from penstock.dialects.anthropic.errors import render_error_event
from penstock.dialects.content_blocks import TEXT, THINKING, TOOL, Block, BlockRenderer, is_object
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance

_encode = msgspec.json.Encoder().encode
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_DELTAS = {
    TEXT: b'"text_delta","text":',
    THINKING: b'"thinking_delta","thinking":',
    TOOL: b'"input_json_delta","partial_json":',
}


class MessageRenderer(BlockRenderer):
    """One message. A streamed text costs one join: what stands around it is drawn once a block."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        super().__init__()
        self._streamed = call.stream
        self._id = f"msg_{provenance.request_id}"
        self._model = provenance.model or provenance.requested or call.model
        self._request_id = provenance.request_id
        self._thoughts = "hide_thinking" not in call.flags
        self._blocks = 0
        self._refusal: list[str] = []

    @property
    def content_type(self) -> bytes:
        """Server-sent events when streamed."""
        return b"text/event-stream; charset=utf-8" if self._streamed else b"application/json"

    def render_end(self) -> bytes:
        """Ends the blocks, then tells why it ended and what it cost."""
        events = list(self._finished())
        refusal = "".join(self._refusal)
        delta = _stop(self.finish, self.stop_sequence, self.called, refusal)
        events.append(_event("message_delta", {"delta": delta, "usage": _usage(self.usage)}))
        events.append(_event("message_stop", {}))
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """An `render_error` event."""
        return render_error_event(error, self._request_id)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """A `message` object."""
        choice = answer.choices[0] if answer.choices else Choice()
        steps = "".join(f"{step}\n" for step in answer.steps)
        stop = _stop(choice.finish, choice.stop_sequence, bool(choice.tool_calls), choice.refusal)
        return _encode(self._message(self._content(choice, steps), stop, answer.usage))

    def _content(self, choice: Choice, steps: str) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        thinking = steps + choice.thinking
        if self._thoughts and (thinking or choice.thinking_signature):
            content.append({"type": "thinking", "thinking": thinking, "signature": choice.thinking_signature})
        if choice.text:
            content.append({"type": "text", "text": choice.text, "citations": None})
        content.extend(self._tool_use(at, call) for at, call in enumerate(choice.tool_calls))
        return content

    def _tool_use(self, at: int, call: ToolCall) -> dict[str, Any]:
        return {
            "type": "tool_use",
            "id": call.id or self._call_id(at),
            "name": call.name,
            "input": _input(call.arguments),
        }

    def _call_id(self, at: int) -> str:
        return f"toolu_{self._request_id}_{at}"

    def _message(self, content: list[dict[str, Any]], stop: dict[str, Any], usage: Usage | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **stop,
            "usage": _usage(usage),
        }

    def _start(self) -> bytes:
        return _event("message_start", {"message": self._message([], _stop(None, "", False, ""), None)})

    def _shown(self, block: Block) -> bool:
        return block.kind in _DELTAS and (self._thoughts or block.kind != THINKING)

    def _begin(self, block: Block) -> bytes:
        if not self._shown(block):
            return b""
        block.index = self._blocks
        self._blocks += 1
        block.head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b'
            % (block.index, _DELTAS[block.kind])
        )
        match block.kind:
            case "text":
                drawn: dict[str, Any] = {"type": "text", "text": ""}
            case "thinking":
                drawn = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                call_id = block.id or self._call_id(block.index)
                drawn = {"type": "tool_use", "id": call_id, "name": block.name, "input": {}}
        return _event("content_block_start", {"index": block.index, "content_block": drawn})

    def _delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        if not block.head:
            if block.kind != THINKING:
                self._refusal.append(text)
            return b""
        return block.head + _encode(text) + b"}}\n\n"

    def _end(self, block: Block) -> bytes:
        if not block.head:
            return b""
        stop = _event("content_block_stop", {"index": block.index})
        if not block.signature:
            return stop
        delta = {"type": "signature_delta", "signature": block.signature}
        return _event("content_block_delta", {"index": block.index, "delta": delta}) + stop


class CountRenderer:
    """The answer of `count_tokens`, which is never streamed."""

    content_type = b"application/json"

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Nothing: a count comes whole."""
        return b""

    def render_end(self) -> bytes:
        """Nothing: a count comes whole."""
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        """An `render_error` event."""
        return render_error_event(error, self._request_id)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """The number of the prompt's tokens."""
        return _encode({"input_tokens": answer.usage.prompt_tokens if answer.usage else 0})


def _event(name: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name} | members))


def _stop(finish: str | None, stop_sequence: str, called: bool, refusal: str) -> dict[str, Any]:
    """Why a message ended; `finish` None is of one that has only begun."""
    reason = None if finish is None else _STOP_REASONS.get(finish, "end_turn")
    if reason == "end_turn" and called:
        reason = "tool_use"
    elif reason == "end_turn" and stop_sequence:
        reason = "stop_sequence"
    if refusal:
        reason = "refusal"
    details = {"type": "refusal", "category": None, "explanation": refusal or None} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": stop_sequence or None, "stop_details": details}


def _usage(usage: Usage | None) -> dict[str, Any]:
    """Tokens as Anthropic counts them: those read from a cache are not among `input_tokens`."""
    usage = usage or Usage()
    counts: dict[str, Any] = {
        "input_tokens": max(usage.prompt_tokens - usage.cached_tokens, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _input(arguments: str) -> Any:
    """A call's arguments as the object that `input` must be; what is none (a call cut short) goes in as text."""
    if is_object(arguments):
        return msgspec.Raw(arguments.encode())
    return {"arguments": arguments} if arguments.strip() not in ("", "null") else {}
