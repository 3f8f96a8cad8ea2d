"""Rendering of chat responses in OpenAI's format, as one object or as a stream of events."""

from typing import Any

import msgspec

from penstock.dialects.base import EVENT_STREAM, JSON
from penstock.dialects.openai.errors import render_error_event
from penstock.dialects.openai.usage import build_usage_object
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage

_encode = msgspec.json.Encoder().encode
_FINISH_REASONS = {"load": "stop", "unload": "stop", "": "stop"}


class ChatRenderer:
    """Renderer of one chat response. The bytes around a chunk of plain text are rendered once, for speed."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._id = f"chatcmpl-{provenance.request_id}"
        self._created = int(provenance.created)
        self._model = provenance.requested or provenance.model
        self._is_streamed = call.stream
        self._include_usage = "usage" in call.flags
        self._uses_functions = "functions" in call.flags
        self._prefix = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            _encode(self._id),
            self._created,
            _encode(self._model),
        )
        self._suffix = b'],"usage":null}\n\n' if self._include_usage else b"]}\n\n"
        self._before_text = self._prefix + b'{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}' + self._suffix
        self._has_tool_calls: dict[int, bool] = {}  # by choice: whether it has tool calls
        self._first_choice_started = False
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    @property
    def content_type(self) -> bytes:
        """Return the type of an event stream, or of JSON."""
        return EVENT_STREAM if self._is_streamed else JSON

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Render the events of a chunk. Plain text of the first choice takes the short way."""
        if self._first_choice_started and not (
            chunk.thinking
            or chunk.finish
            or chunk.tool_calls
            or chunk.usage
            or chunk.choice
            or chunk.logprobs
            or chunk.refusal
            or chunk.step
        ):
            return self._before_text + _encode(chunk.text) + self._after_text if chunk.text else b""
        return self._render_any(chunk)

    def _render_any(self, chunk: Chunk) -> bytes:
        events: list[bytes] = []
        self._usage = chunk.usage or self._usage
        index = chunk.choice
        if index not in self._has_tool_calls:
            self._start_choice(index, events)
        thinking = chunk.thinking or (f"{chunk.step}\n" if chunk.step else "")
        if thinking:
            events.append(self._render_event(index, {"reasoning_content": thinking}))
        if chunk.text or chunk.logprobs or chunk.refusal:
            delta: dict[str, Any] = {"content": chunk.text} if chunk.text or not chunk.refusal else {}
            if chunk.refusal:
                delta["refusal"] = chunk.refusal
            events.append(self._render_event(index, delta, chunk.logprobs))
        if chunk.tool_calls:
            self._has_tool_calls[index] = True
            events.append(self._render_event(index, self._build_tool_delta(index, chunk.tool_calls)))
        if chunk.finish:
            self._finish_choice(index, chunk.finish, events)
        return b"".join(events)

    def render_end(self) -> bytes:
        """Render missing finish reasons, usage if it was requested, and `[DONE]`."""
        events: list[bytes] = []
        if not self._has_tool_calls:
            self._start_choice(0, events)
        for index in self._has_tool_calls:
            if index not in self._finished:
                self._finish_choice(index, "stop", events)
        if self._include_usage and self._usage is not None:
            events.append(self._prefix + b'],"usage":' + _encode(build_usage_object(self._usage)) + b"}\n\n")
        events.append(b"data: [DONE]\n\n")
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_error_event(error)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render a `chat.completion` object."""
        return _encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [self._build_choice(i, choice) for i, choice in enumerate(response.choices or (Choice(),))],
                "usage": None if response.usage is None else build_usage_object(response.usage),
            }
        )

    def _start_choice(self, index: int, events: list[bytes]) -> None:
        self._has_tool_calls[index] = False
        self._first_choice_started = 0 in self._has_tool_calls
        events.append(self._render_event(index, {"role": "assistant", "content": ""}))

    def _finish_choice(self, index: int, finish: str, events: list[bytes]) -> None:
        self._finished.add(index)
        events.append(
            self._render_event(index, {}, finish=self._select_finish_reason(finish, self._has_tool_calls[index]))
        )

    def _select_finish_reason(self, finish: str, has_tool_calls: bool) -> str:
        finish = _FINISH_REASONS.get(finish, finish)
        if has_tool_calls and finish in {"stop", "tool_calls"}:
            return "function_call" if self._uses_functions else "tool_calls"
        return finish

    def _render_event(
        self, index: int, delta: dict[str, Any], logprobs: tuple[Logprob, ...] = (), finish: str = ""
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _build_logprobs(logprobs),
            "finish_reason": finish or None,
        }
        return self._prefix + _encode(choice) + self._suffix

    def _build_tool_delta(self, choice: int, deltas: tuple[ToolDelta, ...]) -> dict[str, Any]:
        if self._uses_functions:
            name = "".join(delta.name for delta in deltas)
            arguments = "".join(delta.arguments for delta in deltas)
            return {"function_call": {"name": name, "arguments": arguments} if name else {"arguments": arguments}}
        return {"tool_calls": [self._build_tool_fragment(choice, delta) for delta in deltas]}

    def _build_tool_fragment(self, choice: int, delta: ToolDelta) -> dict[str, Any]:
        if not delta.name and not delta.id:
            return {"index": delta.index, "function": {"arguments": delta.arguments}}
        return {
            "index": delta.index,
            "id": delta.id or self._generate_call_id(choice, delta.index),
            "type": "function",
            "function": {"name": delta.name, "arguments": delta.arguments},
        }

    def _generate_call_id(self, choice: int, index: int) -> str:
        return f"call_{self._id.removeprefix('chatcmpl-')}_{choice}_{index}"

    def _build_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if not choice.text and (choice.tool_calls or choice.refusal) else choice.text,
            "refusal": choice.refusal or None,
        }
        if choice.thinking:
            message["reasoning_content"] = choice.thinking
        if choice.tool_calls and self._uses_functions:
            call = choice.tool_calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif choice.tool_calls:
            message["tool_calls"] = [self._build_tool_call(index, i, call) for i, call in enumerate(choice.tool_calls)]
        return {
            "index": index,
            "message": message,
            "logprobs": _build_logprobs(choice.logprobs),
            "finish_reason": self._select_finish_reason(choice.finish, bool(choice.tool_calls)),
        }

    def _build_tool_call(self, choice: int, index: int, call: ToolCall) -> dict[str, Any]:
        return {
            "id": call.id or self._generate_call_id(choice, index),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }


def _build_logprobs(logprobs: tuple[Logprob, ...]) -> dict[str, Any] | None:
    if not logprobs:
        return None
    return {
        "content": [
            _build_logprob(logprob) | {"top_logprobs": [_build_logprob(other) for other in logprob.top]}
            for logprob in logprobs
        ]
    }


def _build_logprob(logprob: Logprob) -> dict[str, Any]:
    return {"token": logprob.token, "logprob": logprob.logprob, "bytes": logprob.bytes}
