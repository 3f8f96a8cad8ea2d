"""Draws answers as OpenAI's Responses API does: https://platform.openai.com/docs/api-reference/responses-streaming."""

from typing import Any

import msgspec

from penstock.dialects.content_blocks import REFUSAL, TEXT, THINKING, TOOL, Block, BlockRenderer
from penstock.dialects.json_body import decode_body
from penstock.dialects.openai_responses.schema import ReasoningConfig
from penstock.domain.errors import InvalidRequest, PenstockError, RateLimited
from penstock.domain.request import Call
from penstock.domain.response import Choice, Logprob, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance

_encode = msgspec.json.Encoder().encode
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_NULL = msgspec.Raw(b"null")


class _Echo(msgspec.Struct):
    """What a response repeats of its request."""

    instructions: msgspec.Raw = _NULL
    max_output_tokens: msgspec.Raw = _NULL
    max_tool_calls: msgspec.Raw = _NULL
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: msgspec.Raw = _NULL
    reasoning: ReasoningConfig | None = None
    safety_identifier: msgspec.Raw = _NULL
    temperature: msgspec.Raw = _NULL
    text: dict[str, msgspec.Raw] | None = None
    tool_choice: msgspec.Raw = _NULL
    tools: list[msgspec.Raw] | None = None
    top_logprobs: int | None = None
    top_p: msgspec.Raw = _NULL
    truncation: str | None = None
    user: msgspec.Raw = _NULL

    def drawn(self) -> bytes:
        """The members, without braces; what was not given is told as OpenAI tells its defaults."""
        members = msgspec.structs.asdict(self)
        members["background"] = False
        members["metadata"] = self.metadata or {}
        members["parallel_tool_calls"] = self.parallel_tool_calls is not False
        members["previous_response_id"] = None
        members["reasoning"] = self.reasoning or ReasoningConfig()
        members["service_tier"] = "default"
        members["store"] = False
        members["text"] = {"format": {"type": "text"}} | {
            name: value for name, value in (self.text or {}).items() if value != _NULL
        }
        members["tool_choice"] = "auto" if self.tool_choice == _NULL else self.tool_choice
        members["tools"] = self.tools or []
        members["top_logprobs"] = self.top_logprobs or 0
        members["truncation"] = self.truncation or "disabled"
        return _encode(members)[1:-1]


_ECHO = msgspec.json.Decoder(_Echo)


class ResponseRenderer(BlockRenderer):
    """One response. A streamed text costs one join: what stands around it is drawn once an item."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        super().__init__()
        self._streamed = call.stream
        self._id = provenance.request_id
        self._created = int(provenance.created)
        self._model = provenance.model or provenance.requested or call.model
        echo = decode_body(_ECHO, call.body)
        self._summary = bool(echo.reasoning and echo.reasoning.summary)
        self._echo = echo.drawn()
        self._sequence = -1
        self._items = 0
        self._output: dict[int, dict[str, Any]] = {}

    @property
    def content_type(self) -> bytes:
        """Server-sent events when streamed."""
        return b"text/event-stream; charset=utf-8" if self._streamed else b"application/json"

    def render_end(self) -> bytes:
        """Ends the items, then tells the whole response again."""
        events = list(self._finished())
        status = "incomplete" if self.finish in _INCOMPLETE else "completed"
        events.append(self._lifecycle(f"response.{status}", self._response(status, self._done(), self.usage)))
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """An `render_error` event, then `response.failed` with what there is so far."""
        begun = self._begun()
        told = self._event("error", {"code": error.code, "message": error.message, "param": error.param})
        for block in self._unfinished():
            self._output[block.index] = self._item(block, "incomplete")
        failed = self._response("failed", self._done(), self.usage, error=error)
        return begun + told + self._lifecycle("response.failed", failed)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """A `response` object."""
        choice = answer.choices[0] if answer.choices else Choice()
        status = "incomplete" if choice.finish in _INCOMPLETE else "completed"
        self.finish = choice.finish
        items = [self._item(block, status) for block in _blocks(choice, answer.steps)]
        return self._response(status, items, answer.usage, completed=self._created + int(provenance.total_seconds))

    def _done(self) -> list[dict[str, Any]]:
        return [item for _, item in sorted(self._output.items())]

    def _response(
        self,
        status: str,
        output: list[dict[str, Any]],
        usage: Usage | None,
        *,
        error: PenstockError | None = None,
        completed: int | None = None,
    ) -> bytes:
        reason = _INCOMPLETE.get(self.finish) if status == "incomplete" else None
        members = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "completed_at": completed if status == "completed" else None,
            "status": status,
            "error": {"code": _error_code(error), "message": error.message} if error else None,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self._model,
            "output": output,
            "usage": _usage(usage) if usage else None,
        }
        return _encode(members)[:-1] + b"," + self._echo + b"}"

    def _lifecycle(self, name: str, response: bytes) -> bytes:
        return self._event(name, {"response": msgspec.Raw(response)})

    def _event(self, name: str, members: dict[str, Any]) -> bytes:
        self._sequence += 1
        drawn = _encode({"type": name, "sequence_number": self._sequence} | members)
        return b"event: %b\ndata: %b\n\n" % (name.encode(), drawn)

    def _start(self) -> bytes:
        response = self._response("in_progress", [], None)
        return self._lifecycle("response.created", response) + self._lifecycle("response.in_progress", response)

    def _begin(self, block: Block) -> bytes:
        block.index = self._items
        self._items += 1
        added = self._event(
            "response.output_item.added",
            {"output_index": block.index, "item": self._item(block, "in_progress", empty=True)},
        )
        name, place = self._place(block)
        block.head = b'event: %b.delta\ndata: %b,"delta":' % (
            name.encode(),
            _encode({"type": f"{name}.delta"} | place)[:-1],
        )
        if block.kind == TEXT:
            block.head = block.head.removesuffix(b'"delta":') + b'"logprobs":[],"delta":'
        return added + self._part_event(block, "added")

    def _delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        if logprobs:
            block.logprobs.extend(logprobs)
            name, place = self._place(block)
            return self._event(f"{name}.delta", place | {"delta": text, "logprobs": _logprobs(logprobs)})
        self._sequence += 1
        return block.head + _encode(text) + b',"sequence_number":%d}\n\n' % self._sequence

    def _end(self, block: Block) -> bytes:
        name, place = self._place(block)
        item = self._item(block, "incomplete" if self.finish in _INCOMPLETE else "completed")
        self._output[block.index] = item
        said: dict[str, Any] = {_SAID.get(block.kind, "text"): block.text}
        if block.kind == TEXT:
            said["logprobs"] = _logprobs(tuple(block.logprobs))
        elif block.kind == TOOL:
            said["name"] = block.name
        return (
            self._event(f"{name}.done", place | said)
            + self._part_event(block, "done")
            + self._event("response.output_item.done", {"output_index": block.index, "item": item})
        )

    def _part_event(self, block: Block, what: str) -> bytes:
        """That a part of an item begins or ends; function calls have no parts."""
        if block.kind == TOOL:
            return b""
        name = "reasoning_summary_part" if block.kind == THINKING and self._summary else "content_part"
        part = self._part(block, block.text, tuple(block.logprobs))
        return self._event(f"response.{name}.{what}", self._place(block)[1] | {"part": part})

    def _place(self, block: Block) -> tuple[str, dict[str, Any]]:
        """What the events of a block's text are called, and which text they mean."""
        place: dict[str, Any] = {"item_id": self._item_id(block), "output_index": block.index}
        match block.kind:
            case "tool":
                return "response.function_call_arguments", place
            case "thinking" if self._summary:
                return "response.reasoning_summary_text", place | {"summary_index": 0}
            case "thinking":
                return "response.reasoning_text", place | {"content_index": 0}
            case "refusal":
                return "response.refusal", place | {"content_index": 0}
            case _:
                return "response.output_text", place | {"content_index": 0}

    def _item_id(self, block: Block) -> str:
        prefix = {THINKING: "rs", TOOL: "fc"}.get(block.kind, "msg")
        return f"{prefix}_{self._id}_{block.index}"

    def _item(self, block: Block, status: str, *, empty: bool = False) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._item_id(block), "status": status}
        parts = [] if empty else [self._part(block, block.text, tuple(block.logprobs))]
        match block.kind:
            case "tool":
                call_id = block.id or f"call_{self._id}_{block.index}"
                return item | {"type": "function_call", "call_id": call_id, "name": block.name, "arguments": block.text}
            case "thinking":
                summary, content = (parts, []) if self._summary else ([], parts)
                signature = block.signature or None
                return item | {
                    "type": "reasoning",
                    "summary": summary,
                    "content": content,
                    "encrypted_content": signature,
                }
            case _:
                return item | {"type": "message", "role": "assistant", "content": parts}

    def _part(self, block: Block, text: str, logprobs: tuple[Logprob, ...]) -> dict[str, Any]:
        match block.kind:
            case "thinking":
                return {"type": "summary_text" if self._summary else "reasoning_text", "text": text}
            case "refusal":
                return {"type": "refusal", "refusal": text}
            case _:
                return {"type": "output_text", "text": text, "annotations": [], "logprobs": _logprobs(logprobs)}


_SAID = {TOOL: "arguments", REFUSAL: "refusal"}


def _blocks(choice: Choice, steps: tuple[str, ...]) -> list[Block]:
    """The blocks of a whole answer."""
    thinking = "".join(f"{step}\n" for step in steps) + choice.thinking
    blocks: list[Block] = []
    if thinking or choice.thinking_signature:
        blocks.append(Block(THINKING, signature=choice.thinking_signature, pieces=[thinking]))
    if choice.text:
        blocks.append(Block(TEXT, pieces=[choice.text], logprobs=list(choice.logprobs)))
    if choice.refusal:
        blocks.append(Block(REFUSAL, pieces=[choice.refusal]))
    blocks.extend(Block(TOOL, call.id, call.name, pieces=[call.arguments]) for call in choice.tool_calls)
    for index, block in enumerate(blocks):
        block.index = index
    return blocks


def _logprobs(logprobs: tuple[Logprob, ...]) -> list[dict[str, Any]]:
    return [_logprob(one) | {"top_logprobs": [_logprob(other) for other in one.top]} for one in logprobs]


def _logprob(one: Logprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes or list(one.token.encode())}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _error_code(error: PenstockError) -> str:
    """The nearest of the codes that `ResponseError` of the official client knows."""
    if isinstance(error, RateLimited) or error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
