"""`/v1/chat/completions`: what routing reads of a request at once; the rest is read only for translation."""

from typing import ClassVar

import msgspec

from penstock.dialects.json_body import pop_resume_flag
from penstock.dialects.openai.chat_request import decode_chat
from penstock.dialects.openai.chat_response import ChatRenderer
from penstock.dialects.openai.errors import render_error_event
from penstock.dialects.openai.usage import NULL, StreamOptions, find_usage, read_body, stream_ended, whole_usage
from penstock.domain.content import Content
from penstock.domain.errors import InvalidRequest, PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.response_metadata import Provenance


class _Head(msgspec.Struct):
    messages: msgspec.Raw
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None
    functions: msgspec.Raw = NULL
    resume: bool | None = None


_head = msgspec.json.Decoder(_Head)
_OPEN, _CLOSE = b"[]"
_NO_FLAGS: frozenset[str] = frozenset()
_USAGE = frozenset({"usage"})


class ChatEndpoint:
    """The chat wire. Flags: `parse_usage` when the stream is to end with it, `functions` when asked in the old form,
    and those of `resuming`."""

    wire: ClassVar[str] = "openai.chat"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/chat/completions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """One pass over the body; the messages are only seen to be a list with something in it."""
        head = read_body(_head, body)
        messages = memoryview(head.messages)
        if messages[0] != _OPEN or (messages[1] <= _CLOSE and not bytes(messages).strip(b"[] \t\r\n")):
            raise InvalidRequest("`messages` must be a list of at least one message.", param="messages")
        flags = _USAGE if head.stream_options is not None and head.stream_options.include_usage else _NO_FLAGS
        if head.functions != NULL:
            flags |= {"functions"}
        if head.resume is not None:
            body, wish = pop_resume_flag(body, head.resume)
            flags |= wish
        return Call(
            "openai.chat",
            Operation.CHAT,
            head.model or "",
            head.stream or False,
            body,
            flags=flags,
            max_tokens=head.max_tokens if head.max_completion_tokens is None else head.max_completion_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        """The conversation with everything that was asked of it."""
        return decode_chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> ChatRenderer:
        """Draws `chat.completion` and `chat.completion.chunk` objects."""
        return ChatRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From the last `parse_usage` object, or llama.cpp's `timings`."""
        return find_usage(tail) if streamed else whole_usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        """`[DONE]`, or a finish reason where a server sends no `[DONE]`."""
        return stream_ended(tail)

    def render_interruption(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return render_error_event(error)
