"""Anthropic's Messages API, as its official clients speak it."""

import msgspec

from penstock.dialects.anthropic.errors import render_error, render_error_event
from penstock.dialects.anthropic.request import decode
from penstock.dialects.anthropic.response import CountRenderer, MessageRenderer
from penstock.dialects.anthropic.schema import Positive, ThinkingConfig
from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.json_body import check_text, decode_body, last_object, pop_resume_flag, wrong
from penstock.domain.content import Chat
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.response_metadata import Provenance


class _Head(msgspec.Struct):
    """What routing needs of either request."""

    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    max_tokens: Positive | None = None
    thinking: ThinkingConfig | None = None
    resume: bool | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


_HEAD = msgspec.json.Decoder(_Head)
_USAGE = msgspec.json.Decoder(_Usage)


class _Endpoint:
    """What both endpoints share."""

    method = "POST"

    def decode_content(self, call: Call) -> Chat:
        """The conversation."""
        return decode(call.body)

    def is_complete(self, tail: bytes) -> bool:
        """Whether `message_stop` was the last event."""
        return b'"type":"message_stop"' in tail.rstrip().rpartition(b"\n")[2].replace(b" ", b"")

    def render_interruption(self, error: PenstockError) -> bytes:
        """An `error` event behind bytes that may have stopped in the middle of a line."""
        return b"\n\n" + render_error_event(error)


class MessagesEndpoint(_Endpoint):
    """`POST /v1/messages`."""

    wire = "anthropic.messages"
    paths = ("/v1/messages",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Model, stream and token limit, which is required."""
        check_text(body)
        head = decode_body(_HEAD, body)
        if head.max_tokens is None:
            raise wrong("max_tokens", "field required")
        thinking = head.thinking
        hidden = thinking is not None and (thinking.type == "disabled" or thinking.display == "omitted")
        flags = _HIDDEN if hidden else _NONE
        if head.resume is not None:
            body, wish = pop_resume_flag(body, head.resume)
            flags |= wish
        return Call(
            wire=self.wire,
            operation=Operation.CHAT,
            model=head.model,
            stream=bool(head.stream),
            body=body,
            flags=flags,
            max_tokens=head.max_tokens,
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Draws a `message`."""
        return MessageRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From `parse_usage` of the message, or of the last `message_delta`."""
        found = last_object(tail, "usage")
        try:
            usage = _USAGE.decode(found)
        except msgspec.DecodeError:
            return None
        cached = usage.cache_read_input_tokens or 0
        prompt = (usage.input_tokens or 0) + cached + (usage.cache_creation_input_tokens or 0)
        return Usage(prompt, usage.output_tokens or 0, cached)


class CountEndpoint(_Endpoint):
    """`POST /v1/messages/count_tokens`."""

    wire = "anthropic.count_tokens"
    paths = ("/v1/messages/count_tokens",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """The model; nothing is generated."""
        check_text(body)
        return Call(self.wire, Operation.COUNT, decode_body(_HEAD, body).model, stream=False, body=body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Draws the count."""
        return CountRenderer(provenance.request_id)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Counting costs nothing."""
        return None


_HIDDEN = frozenset({"hide_thinking"})
_NONE: frozenset[str] = frozenset()

DIALECT = Dialect(
    name="anthropic",
    endpoints=(MessagesEndpoint(), CountEndpoint()),
    render_error=render_error,
    prefixes=("/v1/messages",),
)
