"""`/v1/responses`: routing reads a few fields in one pass; the rest is decoded only for translation."""

import re
from typing import Any

import msgspec

from penstock.dialects.base import NO_FLAGS, Renderer
from penstock.dialects.json_body import PositiveInt, decode_body, decode_last_object, pop_resume_flag
from penstock.dialects.openai_responses.request import decode_chat
from penstock.dialects.openai_responses.response import ResponseRenderer
from penstock.domain.content import Chat
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.unicode_repair import repair_unicode


class _RoutingFields(msgspec.Struct):
    model: str
    input: msgspec.Raw
    stream: bool | None = None
    max_output_tokens: PositiveInt | None = None
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


_decoder = msgspec.json.Decoder(_RoutingFields)
_usage_decoder = msgspec.json.Decoder(_Usage)
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_EVENT = re.compile(rb'"type": ?"(response\.[a-z_.]+|error)"')
_LAST_EVENTS = frozenset({b"response.completed", b"response.incomplete", b"response.failed", b"response.cancelled"})


class ResponsesEndpoint:
    """`POST /v1/responses`. Flags: those of `pop_resume_flag`."""

    wire = "openai.responses"
    method = "POST"
    paths = ("/v1/responses",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the model, `stream` and the token limit."""
        body = repair_unicode(body)
        fields = decode_body(_decoder, body)
        flags = NO_FLAGS
        if fields.resume is not None:
            body, flags = pop_resume_flag(body, fields.resume)
        return Call(
            wire=self.wire,
            operation=Operation.CHAT,
            model=fields.model,
            stream=bool(fields.stream),
            body=body,
            flags=flags,
            max_tokens=fields.max_output_tokens,
        )

    def decode_content(self, call: Call) -> Chat:
        """Decode the conversation."""
        return decode_chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of a `response`."""
        return ResponseRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse `usage` of the response, which the last event of a stream contains."""
        usage = decode_last_object(tail, b'"usage"', _usage_decoder)
        if usage is None:
            return None
        return Usage(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            cached_tokens=(usage.input_tokens_details and usage.input_tokens_details.cached_tokens) or 0,
            reasoning_tokens=(usage.output_tokens_details and usage.output_tokens_details.reasoning_tokens) or 0,
        )

    def is_complete(self, tail: bytes) -> bool:
        """Return whether the last event is there. If it is longer than `tail`, it is known by its `usage`."""
        if not tail.endswith(b"\n"):
            return False
        events = _EVENT.findall(tail)
        if events:
            return events[-1] in _LAST_EVENTS
        return decode_last_object(tail, b'"usage"', _object_decoder) is not None

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an `error` event after bytes that may have stopped in the middle of a line."""
        event = {
            "type": "error",
            "sequence_number": 0,
            "code": error.code,
            "message": error.message,
            "param": error.param,
        }
        return b"\n\nevent: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
