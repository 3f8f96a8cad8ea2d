"""`/v1/completions`: continuation of raw text, without a chat template."""

from typing import Any, ClassVar

import msgspec

from penstock.dialects.base import EVENT_STREAM, JSON, NO_FLAGS
from penstock.dialects.json_body import collect_unknown_fields, decode_body, pop_resume_flag
from penstock.dialects.openai.errors import render_error_event, render_interruption
from penstock.dialects.openai.request_fields import (
    IGNORED_FIELDS,
    ResponseFormat,
    SamplingFields,
    StreamOptions,
    to_format,
    to_inputs,
    to_sampling,
)
from penstock.dialects.openai.usage import build_usage_object, is_stream_complete, parse_usage
from penstock.domain.content import Completion, Content
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, Usage
from penstock.domain.unicode_repair import repair_unicode

_FINISH_REASONS = {"load": "stop", "unload": "stop", "tool_calls": "stop", "": "stop"}


class _RoutingFields(msgspec.Struct):
    prompt: msgspec.Raw
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    stream_options: StreamOptions | None = None
    resume: bool | None = None


class _RequestFields(SamplingFields):
    prompt: str | list[str | int | list[int]] = ""
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    response_format: ResponseFormat | None = None
    stream_options: StreamOptions | None = None


_encode = msgspec.json.Encoder().encode
_routing_decoder = msgspec.json.Decoder(_RoutingFields)
_request_decoder = msgspec.json.Decoder(_RequestFields)
_KNOWN_FIELDS = IGNORED_FIELDS.union(_RequestFields.__struct_fields__)
_USAGE = frozenset({"usage"})


class CompletionsEndpoint:
    """The completions wire. Flags: `usage` if the stream must end with token counts, and those of `pop_resume_flag`."""

    wire: ClassVar[str] = "openai.completions"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/completions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the routing fields in one pass."""
        body = repair_unicode(body)
        fields = decode_body(_routing_decoder, body, brackets=True)
        include_usage = fields.stream_options is not None and fields.stream_options.include_usage
        flags = _USAGE if include_usage else NO_FLAGS
        if fields.resume is not None:
            body, resume_flag = pop_resume_flag(body, fields.resume)
            flags |= resume_flag
        return Call(
            "openai.completions",
            Operation.COMPLETION,
            fields.model or "",
            fields.stream or False,
            body,
            flags=flags,
            max_tokens=fields.max_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        """Decode the prompts and parameters."""
        fields = decode_body(_request_decoder, call.body, brackets=True)
        return Completion(
            prompts=to_inputs(fields.prompt, "prompt"),
            suffix=fields.suffix or "",
            echo=fields.echo or False,
            format=to_format(fields.response_format),
            sampling=to_sampling(
                fields,
                max_tokens=fields.max_tokens,
                logprobs=fields.logprobs is not None,
                top_logprobs=fields.logprobs,
            ),
            extra=collect_unknown_fields(call.body, _KNOWN_FIELDS),
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> "CompletionRenderer":
        """Create a renderer of `text_completion` objects."""
        return CompletionRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the last `usage` object, or llama.cpp's `timings`."""
        return parse_usage(tail, streamed)

    def is_complete(self, tail: bytes) -> bool:
        """Return whether the stream ends with `[DONE]`, or with a finish reason if the server sends no `[DONE]`."""
        return is_stream_complete(tail)

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_interruption(error)


class CompletionRenderer:
    """Renderer of one response. The format has no field for thinking, which is left out."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._is_streamed = call.stream
        self._include_usage = "usage" in call.flags
        self._id = f"cmpl-{provenance.request_id}"
        self._created = int(provenance.created)
        self._model = provenance.requested or provenance.model
        self._prefix = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[' % (
            _encode(self._id),
            self._created,
            _encode(self._model),
        )
        self._suffix = b'],"usage":null}\n\n' if self._include_usage else b"]}\n\n"
        self._before_text = self._prefix + b'{"index":0,"text":'
        self._after_text = b',"logprobs":null,"finish_reason":null}' + self._suffix
        self._offsets: dict[int, int] = {}  # by choice: characters rendered
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    @property
    def content_type(self) -> bytes:
        """Return the type of an event stream, or of JSON."""
        return EVENT_STREAM if self._is_streamed else JSON

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Render the event of a chunk. Plain text of the first choice takes the short way."""
        if chunk.text and not (chunk.choice or chunk.finish or chunk.logprobs or chunk.usage):
            self._offsets[0] = self._offsets.get(0, 0) + len(chunk.text)
            return self._before_text + _encode(chunk.text) + self._after_text
        self._usage = chunk.usage or self._usage
        if not (chunk.text or chunk.finish or chunk.logprobs):
            return b""
        offset = self._offsets.get(chunk.choice, 0)
        self._offsets[chunk.choice] = offset + len(chunk.text)
        if chunk.finish:
            self._finished.add(chunk.choice)
        return self._render_event(chunk.choice, chunk.text, chunk.logprobs, offset, chunk.finish)

    def render_end(self) -> bytes:
        """Render missing finish reasons, usage if it was requested, and `[DONE]`."""
        self._offsets.setdefault(0, 0)
        events = [self._render_event(i, "", (), 0, "stop") for i in self._offsets if i not in self._finished]
        if self._include_usage and self._usage is not None:
            events.append(self._prefix + b'],"usage":' + _encode(build_usage_object(self._usage)) + b"}\n\n")
        events.append(b"data: [DONE]\n\n")
        return b"".join(events)

    def render_error(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_error_event(error)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render a `text_completion` object."""
        choices = response.choices or (Choice(),)
        return _encode(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self._model,
                "choices": [
                    {
                        "index": index,
                        "text": choice.text,
                        "logprobs": _build_logprobs(choice.logprobs, 0),
                        "finish_reason": _FINISH_REASONS.get(choice.finish, choice.finish),
                    }
                    for index, choice in enumerate(choices)
                ],
                "usage": None if response.usage is None else build_usage_object(response.usage),
            }
        )

    def _render_event(self, index: int, text: str, logprobs: tuple[Logprob, ...], offset: int, finish: str) -> bytes:
        choice = {
            "index": index,
            "text": text,
            "logprobs": _build_logprobs(logprobs, offset),
            "finish_reason": _FINISH_REASONS.get(finish, finish) if finish else None,
        }
        return self._prefix + _encode(choice) + self._suffix


def _build_logprobs(logprobs: tuple[Logprob, ...], offset: int) -> dict[str, Any] | None:
    if not logprobs:
        return None
    offsets = []
    for logprob in logprobs:
        offsets.append(offset)
        offset += len(logprob.token)
    return {
        "tokens": [logprob.token for logprob in logprobs],
        "token_logprobs": [logprob.logprob for logprob in logprobs],
        "top_logprobs": [{other.token: other.logprob for other in logprob.top} for logprob in logprobs],
        "text_offset": offsets,
    }
