"""Rendering in the Responses API's format: https://platform.openai.com/docs/api-reference/responses-streaming."""

from typing import Any

import msgspec

from penstock.dialects.base import EVENT_STREAM, JSON
from penstock.dialects.content_blocks import REFUSAL, TEXT, THINKING, TOOL, Block, BlockRenderer
from penstock.dialects.json_body import decode_body
from penstock.dialects.openai_responses import schema
from penstock.dialects.openai_responses.tools import (
    CUSTOM,
    FUNCTION,
    LOCAL_SHELL,
    DeclaredTool,
    build_shell_action,
    declare_tools,
    decode_custom_input,
)
from penstock.domain.content import Tool
from penstock.domain.errors import InvalidRequest, PenstockError, RateLimited
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Logprob, ModelResponse, Usage

_encode = msgspec.json.Encoder().encode
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_NULL = msgspec.Raw(b"null")
_tools_decoder: msgspec.json.Decoder[list[schema.Tool]] = msgspec.json.Decoder(list[schema.Tool])


class _EchoedFields(msgspec.Struct):
    """Request fields that the response repeats."""

    instructions: msgspec.Raw = _NULL
    max_output_tokens: msgspec.Raw = _NULL
    max_tool_calls: msgspec.Raw = _NULL
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: msgspec.Raw = _NULL
    reasoning: schema.ReasoningConfig | None = None
    safety_identifier: msgspec.Raw = _NULL
    temperature: msgspec.Raw = _NULL
    text: dict[str, msgspec.Raw] | None = None
    tool_choice: msgspec.Raw = _NULL
    tools: msgspec.Raw = _NULL
    top_logprobs: int | None = None
    top_p: msgspec.Raw = _NULL
    truncation: str | None = None
    user: msgspec.Raw = _NULL

    def render_members(self) -> bytes:
        """Render the members without braces. Absent fields get the defaults that OpenAI reports."""
        members = msgspec.structs.asdict(self)
        members["background"] = False
        members["metadata"] = self.metadata or {}
        members["parallel_tool_calls"] = self.parallel_tool_calls is not False
        members["previous_response_id"] = None
        members["reasoning"] = self.reasoning or schema.ReasoningConfig()
        members["service_tier"] = "default"
        members["store"] = False
        members["text"] = {"format": {"type": "text"}} | {
            name: value for name, value in (self.text or {}).items() if value != _NULL
        }
        members["tool_choice"] = "auto" if self.tool_choice == _NULL else self.tool_choice
        members["tools"] = [] if self.tools == _NULL else self.tools
        members["top_logprobs"] = self.top_logprobs or 0
        members["truncation"] = self.truncation or "disabled"
        return _encode(members)[1:-1]


_echo_decoder = msgspec.json.Decoder(_EchoedFields)


class ResponseRenderer(BlockRenderer):
    """Renderer of one response. The bytes around a streamed text are rendered once an item, for speed."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        super().__init__()
        self._is_streamed = call.stream
        self._id = provenance.request_id
        self._created = int(provenance.created)
        self._model = provenance.requested or provenance.model or call.model
        echo = decode_body(_echo_decoder, call.body)
        self._uses_summary = bool(echo.reasoning and echo.reasoning.summary)
        self._echo = echo.render_members()
        self._tools_json = echo.tools
        self._tools: dict[str, DeclaredTool] | None = None  # read when the model calls one
        self._sequence = -1
        self._item_count = 0
        self._output: dict[int, dict[str, Any]] = {}

    @property
    def content_type(self) -> bytes:
        """Return the type of an event stream, or of JSON."""
        return EVENT_STREAM if self._is_streamed else JSON

    def render_end(self) -> bytes:
        """Close the items, then render the complete response."""
        events = list(self._close_all_blocks())
        status = "incomplete" if self.finish in _INCOMPLETE else "completed"
        events.append(
            self._render_lifecycle_event(
                f"response.{status}", self._render_response_object(status, self._list_output(), self.usage)
            )
        )
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """Render an `error` event, then `response.failed` with the output so far."""
        start = self._start_once()
        error_event = self._render_event("error", {"code": error.code, "message": error.message, "param": error.param})
        for block in self._list_open_blocks():
            self._output[block.index] = self._build_item(block, "incomplete")
        failed = self._render_response_object("failed", self._list_output(), self.usage, error=error)
        return start + error_event + self._render_lifecycle_event("response.failed", failed)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render a `response` object."""
        choice = response.choices[0] if response.choices else Choice()
        status = "incomplete" if choice.finish in _INCOMPLETE else "completed"
        self.finish = choice.finish
        items = [self._build_item(block, status) for block in _build_blocks(choice, response.steps)]
        return self._render_response_object(
            status, items, response.usage, completed=self._created + int(provenance.total_seconds)
        )

    def _list_output(self) -> list[dict[str, Any]]:
        return [item for _, item in sorted(self._output.items())]

    def _render_response_object(
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
            "error": {"code": _select_error_code(error), "message": error.message} if error else None,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self._model,
            "output": output,
            "usage": _build_usage(usage) if usage else None,
        }
        return _encode(members)[:-1] + b"," + self._echo + b"}"

    def _render_lifecycle_event(self, name: str, response: bytes) -> bytes:
        return self._render_event(name, {"response": msgspec.Raw(response)})

    def _render_event(self, name: str, members: dict[str, Any]) -> bytes:
        self._sequence += 1
        data = _encode({"type": name, "sequence_number": self._sequence} | members)
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    def _render_start(self) -> bytes:
        response = self._render_response_object("in_progress", [], None)
        return self._render_lifecycle_event("response.created", response) + self._render_lifecycle_event(
            "response.in_progress", response
        )

    def _open_block(self, block: Block) -> bytes:
        block.index = self._item_count
        self._item_count += 1
        added = self._render_event(
            "response.output_item.added",
            {"output_index": block.index, "item": self._build_item(block, "in_progress", empty=True)},
        )
        name, location = self._locate_text(block)
        block.delta_prefix = b'event: %b.delta\ndata: %b,"delta":' % (
            name.encode(),
            _encode({"type": f"{name}.delta"} | location)[:-1],
        )
        if block.kind == TEXT:
            block.delta_prefix = block.delta_prefix.removesuffix(b'"delta":') + b'"logprobs":[],"delta":'
        return added + self._render_part_event(block, "added")

    def _render_delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        if block.kind == TOOL and self._find_tool(block).kind != FUNCTION:
            return b""  # the arguments become the client's input when they are complete
        if logprobs:
            block.logprobs.extend(logprobs)
            name, location = self._locate_text(block)
            return self._render_event(
                f"{name}.delta", location | {"delta": text, "logprobs": _build_logprobs(logprobs)}
            )
        self._sequence += 1
        return block.delta_prefix + _encode(text) + b',"sequence_number":%d}\n\n' % self._sequence

    def _close_block(self, block: Block) -> bytes:
        name, location = self._locate_text(block)
        item = self._build_item(block, "incomplete" if self.finish in _INCOMPLETE else "completed")
        self._output[block.index] = item
        content: dict[str, Any] = {_TEXT_FIELDS.get(block.kind, "text"): block.joined_text}
        if block.kind == TEXT:
            content["logprobs"] = _build_logprobs(tuple(block.logprobs))
        elif block.kind == TOOL:
            tool = self._find_tool(block)
            if tool.kind == LOCAL_SHELL:
                return self._render_event("response.output_item.done", {"output_index": block.index, "item": item})
            if tool.kind == CUSTOM:
                return self._render_custom_input(block, item)
            content["name"] = tool.name
        return (
            self._render_event(f"{name}.done", location | content)
            + self._render_part_event(block, "done")
            + self._render_event("response.output_item.done", {"output_index": block.index, "item": item})
        )

    def _render_custom_input(self, block: Block, item: dict[str, Any]) -> bytes:
        """Render the end of a custom tool's call, with its input in one piece."""
        name, location = self._locate_text(block)
        text = item["input"]
        return (
            self._render_event(f"{name}.delta", location | {"delta": text})
            + self._render_event(f"{name}.done", location | {"input": text})
            + self._render_event("response.output_item.done", {"output_index": block.index, "item": item})
        )

    def _find_tool(self, block: Block) -> DeclaredTool:
        """Return the tool that a model has called: as the client declared it, else a function of that name."""
        if self._tools is None:
            self._tools = {}
            if self._tools_json != _NULL:
                tools = decode_body(_tools_decoder, self._tools_json)
                self._tools = declare_tools(tools, [])
        return self._tools.get(block.name) or DeclaredTool(Tool(block.name), FUNCTION, block.name)

    def _render_part_event(self, block: Block, suffix: str) -> bytes:
        """Render the start (`added`) or end (`done`) of a part of an item. Function calls have no parts."""
        if block.kind == TOOL:
            return b""
        name = "reasoning_summary_part" if block.kind == THINKING and self._uses_summary else "content_part"
        part = self._build_part(block, block.joined_text, tuple(block.logprobs))
        return self._render_event(f"response.{name}.{suffix}", self._locate_text(block)[1] | {"part": part})

    def _locate_text(self, block: Block) -> tuple[str, dict[str, Any]]:
        """Return the name of the events of a block's text, and the fields that identify the text."""
        location: dict[str, Any] = {"item_id": self._build_item_id(block), "output_index": block.index}
        match block.kind:
            case "tool" if self._find_tool(block).kind == CUSTOM:
                return "response.custom_tool_call_input", location
            case "tool":
                return "response.function_call_arguments", location
            case "thinking" if self._uses_summary:
                return "response.reasoning_summary_text", location | {"summary_index": 0}
            case "thinking":
                return "response.reasoning_text", location | {"content_index": 0}
            case "refusal":
                return "response.refusal", location | {"content_index": 0}
            case _:
                return "response.output_text", location | {"content_index": 0}

    def _build_item_id(self, block: Block) -> str:
        prefix = {THINKING: "rs", TOOL: "fc"}.get(block.kind, "msg")
        if block.kind == TOOL:
            prefix = _TOOL_PREFIXES[self._find_tool(block).kind]
        return f"{prefix}_{self._id}_{block.index}"

    def _build_item(self, block: Block, status: str, *, empty: bool = False) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._build_item_id(block), "status": status}
        parts = [] if empty else [self._build_part(block, block.joined_text, tuple(block.logprobs))]
        match block.kind:
            case "tool":
                return item | self._build_call(block, empty=empty)
            case "thinking":
                summary, content = (parts, []) if self._uses_summary else ([], parts)
                signature = block.signature or None
                return item | {
                    "type": "reasoning",
                    "summary": summary,
                    "content": content,
                    "encrypted_content": signature,
                }
            case _:
                return item | {"type": "message", "role": "assistant", "content": parts}

    def _build_call(self, block: Block, *, empty: bool) -> dict[str, Any]:
        tool = self._find_tool(block)
        call = {"call_id": block.id or f"call_{self._id}_{block.index}"}
        if tool.kind == LOCAL_SHELL:
            return {"type": "local_shell_call"} | call | {"action": build_shell_action(block.joined_text)}
        named = call | ({"namespace": tool.namespace} if tool.namespace else {}) | {"name": tool.name}
        if tool.kind == CUSTOM:
            text = "" if empty else decode_custom_input(block.joined_text)
            return {"type": "custom_tool_call"} | named | {"input": text}
        return {"type": "function_call"} | named | {"arguments": block.joined_text}

    def _build_part(self, block: Block, text: str, logprobs: tuple[Logprob, ...]) -> dict[str, Any]:
        match block.kind:
            case "thinking":
                return {"type": "summary_text" if self._uses_summary else "reasoning_text", "text": text}
            case "refusal":
                return {"type": "refusal", "refusal": text}
            case _:
                return {"type": "output_text", "text": text, "annotations": [], "logprobs": _build_logprobs(logprobs)}


_TOOL_PREFIXES = {FUNCTION: "fc", CUSTOM: "ctc", LOCAL_SHELL: "lsh"}
_TEXT_FIELDS = {TOOL: "arguments", REFUSAL: "refusal"}


def _build_blocks(choice: Choice, steps: tuple[str, ...]) -> list[Block]:
    """Build the blocks of a complete response."""
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


def _build_logprobs(logprobs: tuple[Logprob, ...]) -> list[dict[str, Any]]:
    return [
        _build_logprob(logprob) | {"top_logprobs": [_build_logprob(other) for other in logprob.top]}
        for logprob in logprobs
    ]


def _build_logprob(logprob: Logprob) -> dict[str, Any]:
    return {
        "token": logprob.token,
        "logprob": logprob.logprob,
        "bytes": logprob.bytes or list(logprob.token.encode()),
    }


def _build_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _select_error_code(error: PenstockError) -> str:
    """Return the nearest of the codes in `ResponseError` of the official client."""
    if isinstance(error, RateLimited) or error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
