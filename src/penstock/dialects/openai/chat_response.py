"""Draws chat answers as OpenAI's API does, whole and as a stream of events."""

from typing import Any

from penstock.dialects.openai.errors import error_event
from penstock.dialects.openai.usage import encode, usage_object
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage
from penstock.domain.response_metadata import Provenance

_FINISH = {"load": "stop", "unload": "stop", "": "stop"}


class ChatRenderer:
    """One chat answer. A chunk of plain text costs two joins: everything around it is drawn once."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._id = f"chatcmpl-{provenance.request_id}"
        self._created = int(provenance.created)
        self._model = provenance.requested or provenance.model
        self._stream = call.stream
        self._include_usage = "usage" in call.flags
        self._functions = "functions" in call.flags
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            encode(self._id),
            self._created,
            encode(self._model),
        )
        self._tail = b'],"usage":null}\n\n' if self._include_usage else b"]}\n\n"
        self._before_text = self._head + b'{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}' + self._tail
        self._open: dict[int, bool] = {}  # by choice: whether it has called a tool
        self._plain = False
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    @property
    def content_type(self) -> bytes:
        """Server-sent events when streamed."""
        return b"text/event-stream; charset=utf-8" if self._stream else b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        """The events that this chunk adds."""
        if self._plain and not (
            chunk.thinking
            or chunk.finish
            or chunk.tool_calls
            or chunk.usage
            or chunk.choice
            or chunk.logprobs
            or chunk.refusal
            or chunk.step
        ):
            return self._before_text + encode(chunk.text) + self._after_text if chunk.text else b""
        return self._any(chunk)

    def _any(self, chunk: Chunk) -> bytes:
        events: list[bytes] = []
        self._usage = chunk.usage or self._usage
        index = chunk.choice
        if index not in self._open:
            self._begin(index, events)
        thinking = chunk.thinking or (f"{chunk.step}\n" if chunk.step else "")
        if thinking:
            events.append(self._event(index, {"reasoning_content": thinking}))
        if chunk.text or chunk.logprobs or chunk.refusal:
            delta: dict[str, Any] = {"content": chunk.text} if chunk.text or not chunk.refusal else {}
            if chunk.refusal:
                delta["refusal"] = chunk.refusal
            events.append(self._event(index, delta, chunk.logprobs))
        if chunk.tool_calls:
            self._open[index] = True
            events.append(self._event(index, self._tool_delta(index, chunk.tool_calls)))
        if chunk.finish:
            self._finish(index, chunk.finish, events)
        return b"".join(events)

    def render_end(self) -> bytes:
        """Finishes what the engine left unfinished, then usage where it was asked for, then `[DONE]`."""
        events: list[bytes] = []
        if not self._open:
            self._begin(0, events)
        for index in self._open:
            if index not in self._finished:
                self._finish(index, "stop", events)
        if self._include_usage and self._usage is not None:
            events.append(self._head + b'],"usage":' + encode(usage_object(self._usage)) + b"}\n\n")
        events.append(b"data: [DONE]\n\n")
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return error_event(error)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """A `chat.completion` object."""
        return encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [self._choice(i, choice) for i, choice in enumerate(answer.choices or (Choice(),))],
                "usage": None if answer.usage is None else usage_object(answer.usage),
            }
        )

    def _begin(self, index: int, events: list[bytes]) -> None:
        self._open[index] = False
        self._plain = 0 in self._open
        events.append(self._event(index, {"role": "assistant", "content": ""}))

    def _finish(self, index: int, finish: str, events: list[bytes]) -> None:
        self._finished.add(index)
        events.append(self._event(index, {}, finish=self._finish_reason(finish, self._open[index])))

    def _finish_reason(self, finish: str, called: bool) -> str:
        finish = _FINISH.get(finish, finish)
        if called and finish in {"stop", "tool_calls"}:
            return "function_call" if self._functions else "tool_calls"
        return finish

    def _event(self, index: int, delta: dict[str, Any], logprobs: tuple[Logprob, ...] = (), finish: str = "") -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(logprobs),
            "finish_reason": finish or None,
        }
        return self._head + encode(choice) + self._tail

    def _tool_delta(self, choice: int, deltas: tuple[ToolDelta, ...]) -> dict[str, Any]:
        if self._functions:
            name = "".join(delta.name for delta in deltas)
            arguments = "".join(delta.arguments for delta in deltas)
            return {"function_call": {"name": name, "arguments": arguments} if name else {"arguments": arguments}}
        return {"tool_calls": [self._tool_fragment(choice, delta) for delta in deltas]}

    def _tool_fragment(self, choice: int, delta: ToolDelta) -> dict[str, Any]:
        if not delta.name and not delta.id:
            return {"index": delta.index, "function": {"arguments": delta.arguments}}
        return {
            "index": delta.index,
            "id": delta.id or self._call_id(choice, delta.index),
            "type": "function",
            "function": {"name": delta.name, "arguments": delta.arguments},
        }

    def _call_id(self, choice: int, index: int) -> str:
        return f"call_{self._id.removeprefix('chatcmpl-')}_{choice}_{index}"

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if not choice.text and (choice.tool_calls or choice.refusal) else choice.text,
            "refusal": choice.refusal or None,
        }
        if choice.thinking:
            message["reasoning_content"] = choice.thinking
        if choice.tool_calls and self._functions:
            call = choice.tool_calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif choice.tool_calls:
            message["tool_calls"] = [self._tool_call(index, i, call) for i, call in enumerate(choice.tool_calls)]
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(choice.logprobs),
            "finish_reason": self._finish_reason(choice.finish, bool(choice.tool_calls)),
        }

    def _tool_call(self, choice: int, index: int, call: ToolCall) -> dict[str, Any]:
        return {
            "id": call.id or self._call_id(choice, index),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }


def _logprobs(logprobs: tuple[Logprob, ...]) -> dict[str, Any] | None:
    if not logprobs:
        return None
    return {"content": [_logprob(one) | {"top_logprobs": [_logprob(o) for o in one.top]} for one in logprobs]}


def _logprob(one: Logprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes}
