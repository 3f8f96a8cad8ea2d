"""`/v1/messages` and `/v1/messages/count_tokens`: routing reads a few fields; the rest is decoded for translation."""

import msgspec

from penstock.dialects.anthropic.errors import render_error_event
from penstock.dialects.anthropic.request import decode_chat
from penstock.dialects.anthropic.response import CountRenderer, MessageRenderer
from penstock.dialects.anthropic.schema import ThinkingConfig
from penstock.dialects.base import NO_FLAGS, Renderer
from penstock.dialects.json_body import (
    PositiveInt,
    decode_body,
    decode_last_object,
    missing_field,
    pop_resume_flag,
)
from penstock.domain.content import Chat
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.unicode_repair import repair_unicode


class _RoutingFields(msgspec.Struct):
    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    max_tokens: PositiveInt | None = None
    thinking: ThinkingConfig | None = None
    resume: bool | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


_decoder = msgspec.json.Decoder(_RoutingFields)
_usage_decoder = msgspec.json.Decoder(_Usage)
_HIDE_THINKING = frozenset({"hide_thinking"})


class _Endpoint:
    """Base of both endpoints."""

    method = "POST"

    def decode_content(self, call: Call) -> Chat:
        """Decode the conversation."""
        return decode_chat(call.body)

    def is_complete(self, tail: bytes) -> bool:
        """Return whether `message_stop` is the last event."""
        return b'"type":"message_stop"' in tail.rstrip().rpartition(b"\n")[2].replace(b" ", b"")

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an `error` event after bytes that may have stopped in the middle of a line."""
        return b"\n\n" + render_error_event(error)


class MessagesEndpoint(_Endpoint):
    """`POST /v1/messages`. Flags: `hide_thinking`, and those of `pop_resume_flag`."""

    wire = "anthropic.messages"
    paths = ("/v1/messages",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the model, `stream` and the required token limit."""
        body = repair_unicode(body)
        fields = decode_body(_decoder, body)
        if fields.max_tokens is None:
            raise missing_field("max_tokens")
        thinking = fields.thinking
        is_hidden = thinking is not None and (thinking.type == "disabled" or thinking.display == "omitted")
        flags = _HIDE_THINKING if is_hidden else NO_FLAGS
        if fields.resume is not None:
            body, resume_flag = pop_resume_flag(body, fields.resume)
            flags |= resume_flag
        return Call(
            wire=self.wire,
            operation=Operation.CHAT,
            model=fields.model,
            stream=bool(fields.stream),
            body=body,
            flags=flags,
            max_tokens=fields.max_tokens,
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of a `message`."""
        return MessageRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse `usage` of the message, or of the last `message_delta`."""
        usage = decode_last_object(tail, b'"usage"', _usage_decoder)
        if usage is None:
            return None
        cached = usage.cache_read_input_tokens or 0
        prompt = (usage.input_tokens or 0) + cached + (usage.cache_creation_input_tokens or 0)
        return Usage(prompt, usage.output_tokens or 0, cached)


class CountEndpoint(_Endpoint):
    """`POST /v1/messages/count_tokens`."""

    wire = "anthropic.count_tokens"
    paths = ("/v1/messages/count_tokens",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the model. Nothing is generated."""
        body = repair_unicode(body)
        return Call(self.wire, Operation.COUNT, decode_body(_decoder, body).model, stream=False, body=body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of the count."""
        return CountRenderer(provenance.request_id)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Return None: counting uses no tokens."""
        return None
