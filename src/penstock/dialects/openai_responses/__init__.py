"""OpenAI's Responses API, without its memory: every request brings its whole conversation."""

import re

import msgspec

from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.json_body import check_text, decode_body, last_object, pop_resume_flag
from penstock.dialects.openai.errors import render_error
from penstock.dialects.openai_responses.request import decode
from penstock.dialects.openai_responses.response import ResponseRenderer
from penstock.dialects.openai_responses.schema import Positive
from penstock.domain.content import Chat
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.response_metadata import Provenance


class _Head(msgspec.Struct):
    """What routing needs."""

    model: str
    input: msgspec.Raw
    stream: bool | None = None
    max_output_tokens: Positive | None = None
    resume: bool | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_HEAD = msgspec.json.Decoder(_Head)
_USAGE = msgspec.json.Decoder(_Usage)
_EVENT = re.compile(rb'"type": ?"(response\.[a-z_.]+|error)"')
_NO_FLAGS: frozenset[str] = frozenset()
_LAST = frozenset({b"response.completed", b"response.incomplete", b"response.failed", b"response.cancelled"})


class ResponsesEndpoint:
    """`POST /v1/responses`."""

    wire = "openai.responses"
    method = "POST"
    paths = ("/v1/responses",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Model, stream and token limit."""
        check_text(body)
        head = decode_body(_HEAD, body)
        flags = _NO_FLAGS
        if head.resume is not None:
            body, flags = pop_resume_flag(body, head.resume)
        return Call(
            wire=self.wire,
            operation=Operation.CHAT,
            model=head.model,
            stream=bool(head.stream),
            body=body,
            flags=flags,
            max_tokens=head.max_output_tokens,
        )

    def decode_content(self, call: Call) -> Chat:
        """The conversation."""
        return decode(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Draws a `response`."""
        return ResponseRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From `parse_usage` of the response, which the last event of a stream holds whole."""
        try:
            usage = _USAGE.decode(last_object(tail, "usage"))
        except msgspec.DecodeError:
            return None
        return Usage(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            cached_tokens=(usage.input_tokens_details and usage.input_tokens_details.cached_tokens) or 0,
            reasoning_tokens=(usage.output_tokens_details and usage.output_tokens_details.reasoning_tokens) or 0,
        )

    def is_complete(self, tail: bytes) -> bool:
        """Whether the response's last event is there; when it is longer than `tail`, only it tells of usage."""
        if not tail.endswith(b"\n"):
            return False
        events = _EVENT.findall(tail)
        return events[-1] in _LAST if events else bool(last_object(tail, "usage"))

    def render_interruption(self, error: PenstockError) -> bytes:
        """An `error` event behind bytes that may have stopped in the middle of a line."""
        told = {
            "type": "error",
            "sequence_number": 0,
            "code": error.code,
            "message": error.message,
            "param": error.param,
        }
        return b"\n\nevent: error\ndata: " + msgspec.json.encode(told) + b"\n\n"


DIALECT = Dialect(
    name="openai.responses",
    endpoints=(ResponsesEndpoint(),),
    render_error=render_error,
    prefixes=("/v1/responses",),
)
