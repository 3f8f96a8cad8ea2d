"""Rendering of responses in Anthropic's format: https://docs.anthropic.com/en/docs/build-with-claude/streaming."""

from typing import Any

import msgspec

from penstock.dialects.anthropic.errors import render_error_event
from penstock.dialects.base import EVENT_STREAM, JSON, UnstreamedRenderer
from penstock.dialects.content_blocks import TEXT, THINKING, TOOL, Block, BlockRenderer, is_object
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Logprob, ModelResponse, Usage

_encode = msgspec.json.Encoder().encode
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_DELTAS = {
    TEXT: b'"text_delta","text":',
    THINKING: b'"thinking_delta","thinking":',
    TOOL: b'"input_json_delta","partial_json":',
}


class MessageRenderer(BlockRenderer):
    """Renderer of one message. The bytes around a streamed text are rendered once a block, for speed."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        super().__init__()
        self._is_streamed = call.stream
        self._id = f"msg_{provenance.request_id}"
        self._model = provenance.requested or provenance.model or call.model
        self._request_id = provenance.request_id
        self._includes_thinking = "hide_thinking" not in call.flags
        self._block_count = 0
        self._refusals: list[str] = []

    @property
    def content_type(self) -> bytes:
        """Return the type of an event stream, or of JSON."""
        return EVENT_STREAM if self._is_streamed else JSON

    def render_end(self) -> bytes:
        """Close the blocks, then render the stop reason and token counts."""
        events = list(self._close_all_blocks())
        refusal = "".join(self._refusals)
        delta = _build_stop_fields(self.finish, self.stop_sequence, self.has_tool_calls, refusal)
        events.append(_render_event("message_delta", {"delta": delta, "usage": _build_usage(self.usage)}))
        events.append(_render_event("message_stop", {}))
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """Render an `error` event."""
        return render_error_event(error, self._request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render a `message` object."""
        choice = response.choices[0] if response.choices else Choice()
        steps = "".join(f"{step}\n" for step in response.steps)
        stop = _build_stop_fields(choice.finish, choice.stop_sequence, bool(choice.tool_calls), choice.refusal)
        return _encode(self._build_message(self._build_content(choice, steps), stop, response.usage))

    def _build_content(self, choice: Choice, steps: str) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        thinking = steps + choice.thinking
        if self._includes_thinking and (thinking or choice.thinking_signature):
            content.append({"type": "thinking", "thinking": thinking, "signature": choice.thinking_signature})
        if choice.text:
            content.append({"type": "text", "text": choice.text, "citations": None})
        content.extend(self._build_tool_use(at, call) for at, call in enumerate(choice.tool_calls))
        return content

    def _build_tool_use(self, at: int, call: ToolCall) -> dict[str, Any]:
        return {
            "type": "tool_use",
            "id": call.id or self._generate_call_id(at),
            "name": call.name,
            "input": _parse_input(call.arguments),
        }

    def _generate_call_id(self, at: int) -> str:
        return f"toolu_{self._request_id}_{at}"

    def _build_message(
        self, content: list[dict[str, Any]], stop: dict[str, Any], usage: Usage | None
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **stop,
            "usage": _build_usage(usage),
        }

    def _render_start(self) -> bytes:
        return _render_event(
            "message_start", {"message": self._build_message([], _build_stop_fields(None, "", False, ""), None)}
        )

    def _is_rendered(self, block: Block) -> bool:
        return block.kind in _DELTAS and (self._includes_thinking or block.kind != THINKING)

    def _open_block(self, block: Block) -> bytes:
        if not self._is_rendered(block):
            return b""
        block.index = self._block_count
        self._block_count += 1
        block.delta_prefix = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b'
            % (block.index, _DELTAS[block.kind])
        )
        match block.kind:
            case "text":
                content_block: dict[str, Any] = {"type": "text", "text": ""}
            case "thinking":
                content_block = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                call_id = block.id or self._generate_call_id(block.index)
                content_block = {"type": "tool_use", "id": call_id, "name": block.name, "input": {}}
        return _render_event("content_block_start", {"index": block.index, "content_block": content_block})

    def _render_delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        if not block.delta_prefix:
            if block.kind != THINKING:
                self._refusals.append(text)
            return b""
        return block.delta_prefix + _encode(text) + b"}}\n\n"

    def _close_block(self, block: Block) -> bytes:
        if not block.delta_prefix:
            return b""
        stop = _render_event("content_block_stop", {"index": block.index})
        if not block.signature:
            return stop
        delta = {"type": "signature_delta", "signature": block.signature}
        return _render_event("content_block_delta", {"index": block.index, "delta": delta}) + stop


class CountRenderer(UnstreamedRenderer):
    """Renderer of the response of `count_tokens`."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def render_error(self, error: PenstockError) -> bytes:
        """Render an `error` event."""
        return render_error_event(error, self._request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the number of prompt tokens."""
        return _encode({"input_tokens": response.usage.prompt_tokens if response.usage else 0})


def _render_event(name: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name} | members))


def _build_stop_fields(finish: str | None, stop_sequence: str, has_tool_calls: bool, refusal: str) -> dict[str, Any]:
    """Build the fields on why a message ended. `finish` is None for a message that has only started."""
    reason = None if finish is None else _STOP_REASONS.get(finish, "end_turn")
    if reason == "end_turn" and has_tool_calls:
        reason = "tool_use"
    elif reason == "end_turn" and stop_sequence:
        reason = "stop_sequence"
    if refusal:
        reason = "refusal"
    details = {"type": "refusal", "category": None, "explanation": refusal or None} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": stop_sequence or None, "stop_details": details}


def _build_usage(usage: Usage | None) -> dict[str, Any]:
    """Build `usage`. Anthropic does not include cached tokens in `input_tokens`."""
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


def _parse_input(arguments: str) -> Any:
    """Return `input`, which must be an object. Arguments that are none (an incomplete call) become its text."""
    if is_object(arguments):
        return msgspec.Raw(arguments.encode())
    return {"arguments": arguments} if arguments.strip() not in ("", "null") else {}
