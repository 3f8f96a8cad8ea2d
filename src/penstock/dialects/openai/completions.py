"""`/v1/completions`: raw text to go on with, without a chat template."""

from typing import Any, ClassVar

import msgspec

from penstock.dialects.json_body import pop_resume_flag
from penstock.dialects.openai.chat_request import IDLE, ResponseFormat, SamplingFields, leftovers, read_format, sampling
from penstock.dialects.openai.errors import error_event, render_error_event
from penstock.dialects.openai.usage import (
    StreamOptions,
    encode,
    find_usage,
    read_body,
    read_inputs,
    stream_ended,
    usage_object,
    whole_usage,
)
from penstock.domain.content import Completion, Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance

_REASONS = {"load": "stop", "unload": "stop", "tool_calls": "stop", "": "stop"}


class _Head(msgspec.Struct):
    prompt: msgspec.Raw
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    stream_options: StreamOptions | None = None
    resume: bool | None = None


class _Fields(SamplingFields):
    prompt: str | list[str | int | list[int]] = ""
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    response_format: ResponseFormat | None = None
    stream_options: StreamOptions | None = None


_head = msgspec.json.Decoder(_Head)
_fields = msgspec.json.Decoder(_Fields)
_known = IDLE.union(_Fields.__struct_fields__)
_NO_FLAGS: frozenset[str] = frozenset()
_USAGE = frozenset({"usage"})


class CompletionsEndpoint:
    """The completions wire. Flags: `parse_usage` when the stream is to end with it, and those of `resuming`."""

    wire: ClassVar[str] = "openai.completions"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/completions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """One pass over the body."""
        head = read_body(_head, body)
        usage = head.stream_options is not None and head.stream_options.include_usage
        flags = _USAGE if usage else _NO_FLAGS
        if head.resume is not None:
            body, wish = pop_resume_flag(body, head.resume)
            flags |= wish
        return Call(
            "openai.completions",
            Operation.COMPLETION,
            head.model or "",
            head.stream or False,
            body,
            flags=flags,
            max_tokens=head.max_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        """The prompts with everything that was asked of them."""
        fields = read_body(_fields, call.body)
        return Completion(
            prompts=read_inputs(fields.prompt, "prompt"),
            suffix=fields.suffix or "",
            echo=fields.echo or False,
            format=read_format(fields.response_format),
            sampling=sampling(
                fields,
                max_tokens=fields.max_tokens,
                logprobs=fields.logprobs is not None,
                top_logprobs=fields.logprobs,
            ),
            extra=leftovers(call.body, _known),
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> "CompletionRenderer":
        """Draws `text_completion` objects."""
        return CompletionRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From the last `parse_usage` object, or llama.cpp's `timings`."""
        return find_usage(tail) if streamed else whole_usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        """`[DONE]`, or a finish reason where a server sends no `[DONE]`."""
        return stream_ended(tail)

    def render_interruption(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return render_error_event(error)


class CompletionRenderer:
    """One answer of completions. Thoughts have no place in this form and are left out."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._stream = call.stream
        self._include_usage = "usage" in call.flags
        self._id = f"cmpl-{provenance.request_id}"
        self._created = int(provenance.created)
        self._model = provenance.requested or provenance.model
        self._head = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[' % (
            encode(self._id),
            self._created,
            encode(self._model),
        )
        self._tail = b'],"usage":null}\n\n' if self._include_usage else b"]}\n\n"
        self._before_text = self._head + b'{"index":0,"text":'
        self._after_text = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._offsets: dict[int, int] = {}  # by choice: characters written
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    @property
    def content_type(self) -> bytes:
        """Server-sent events when streamed."""
        return b"text/event-stream; charset=utf-8" if self._stream else b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        """The event that this chunk adds."""
        if chunk.text and not (chunk.choice or chunk.finish or chunk.logprobs or chunk.usage):
            self._offsets[0] = self._offsets.get(0, 0) + len(chunk.text)
            return self._before_text + encode(chunk.text) + self._after_text
        self._usage = chunk.usage or self._usage
        if not (chunk.text or chunk.finish or chunk.logprobs):
            return b""
        offset = self._offsets.get(chunk.choice, 0)
        self._offsets[chunk.choice] = offset + len(chunk.text)
        if chunk.finish:
            self._finished.add(chunk.choice)
        return self._event(chunk.choice, chunk.text, chunk.logprobs, offset, chunk.finish)

    def render_end(self) -> bytes:
        """Finishes what the engine left unfinished, then usage where it was asked for, then `[DONE]`."""
        self._offsets.setdefault(0, 0)
        events = [self._event(i, "", (), 0, "stop") for i in self._offsets if i not in self._finished]
        if self._include_usage and self._usage is not None:
            events.append(self._head + b'],"usage":' + encode(usage_object(self._usage)) + b"}\n\n")
        events.append(b"data: [DONE]\n\n")
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return error_event(error)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """A `text_completion` object."""
        choices = answer.choices or (Choice(),)
        return encode(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self._model,
                "choices": [
                    {
                        "index": index,
                        "text": choice.text,
                        "logprobs": _logprobs(choice.logprobs, 0),
                        "finish_reason": _REASONS.get(choice.finish, choice.finish),
                    }
                    for index, choice in enumerate(choices)
                ],
                "usage": None if answer.usage is None else usage_object(answer.usage),
            }
        )

    def _event(self, index: int, text: str, logprobs: tuple[Logprob, ...], offset: int, finish: str) -> bytes:
        choice = {
            "index": index,
            "text": text,
            "logprobs": _logprobs(logprobs, offset),
            "finish_reason": _REASONS.get(finish, finish) if finish else None,
        }
        return self._head + encode(choice) + self._tail


def _logprobs(logprobs: tuple[Logprob, ...], offset: int) -> dict[str, Any] | None:
    if not logprobs:
        return None
    offsets = []
    for one in logprobs:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{other.token: other.logprob for other in one.top} for one in logprobs],
        "text_offset": offsets,
    }
