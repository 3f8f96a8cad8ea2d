"""`/v1/chat/completions`: routing reads a few fields in one pass; the rest is decoded only for translation."""

from typing import ClassVar

import msgspec

from penstock.dialects.base import NO_FLAGS
from penstock.dialects.json_body import decode_body, pop_resume_flag
from penstock.dialects.openai.chat.request import decode_chat
from penstock.dialects.openai.chat.response import ChatRenderer
from penstock.dialects.openai.errors import render_interruption
from penstock.dialects.openai.request_fields import NULL, StreamOptions
from penstock.dialects.openai.usage import is_stream_complete, parse_usage
from penstock.domain.content import Content
from penstock.domain.errors import InvalidRequest, PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.unicode_repair import repair_unicode


class _RoutingFields(msgspec.Struct):
    messages: msgspec.Raw
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None
    functions: msgspec.Raw = NULL
    resume: bool | None = None


_decoder = msgspec.json.Decoder(_RoutingFields)
_OPENING_BRACKET, _CLOSING_BRACKET = b"[]"
_USAGE = frozenset({"usage"})


class ChatEndpoint:
    """The chat wire.

    Flags: `usage` if the stream must end with token counts, `functions` if the request has the deprecated field of that
    name, and those of `pop_resume_flag`.
    """

    wire: ClassVar[str] = "openai.chat"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/chat/completions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the routing fields in one pass. `messages` is only checked to be a list that is not empty."""
        if not body.isascii() or b"\\" in body:
            body = repair_unicode(body)
        fields = decode_body(_decoder, body, brackets=True)
        messages = memoryview(fields.messages)
        if messages[0] != _OPENING_BRACKET or (
            # A message starts with "{", which sorts after "]": only other lists are copied and searched.
            messages[1] <= _CLOSING_BRACKET and not bytes(messages).strip(b"[] \t\r\n")
        ):
            raise InvalidRequest("`messages` must be a list of at least one message.", param="messages")
        flags = _USAGE if fields.stream_options is not None and fields.stream_options.include_usage else NO_FLAGS
        if fields.functions != NULL:
            flags |= {"functions"}
        if fields.resume is not None:
            body, resume_flag = pop_resume_flag(body, fields.resume)
            flags |= resume_flag
        return Call(
            "openai.chat",
            Operation.CHAT,
            fields.model or "",
            fields.stream or False,
            body,
            flags=flags,
            max_tokens=fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        """Decode the conversation."""
        return decode_chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> ChatRenderer:
        """Create a renderer of `chat.completion` and `chat.completion.chunk` objects."""
        return ChatRenderer(call, provenance)

    # The function itself: a method around it would cost every call 0.1 µs.
    parse_usage = staticmethod(parse_usage)

    def is_complete(self, tail: bytes) -> bool:
        """Return whether the stream ends with `[DONE]`, or with a finish reason if the server sends no `[DONE]`."""
        return is_stream_complete(tail)

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_interruption(error)
