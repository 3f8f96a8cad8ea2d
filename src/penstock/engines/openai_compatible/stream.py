"""Readers of OpenAI-compatible responses: event streams and single bodies.

They accept what real servers send: comments, CRLF, `data:` without a space, no `[DONE]`, one body instead of the
requested stream, errors as events with a name of their own. Unknown fields and a leading BOM are ignored, as in
https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.domain.errors import UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk
from penstock.engines.json_fields import DECODE_ERRORS
from penstock.engines.openai_compatible.errors import extract_message, parse_stream_error
from penstock.engines.openai_compatible.response import (
    NO_ERRORS,
    ResponseObject,
    ToolCalls,
    build_chunks,
    decode_leniently,
    has_finished,
    parse_response,
)

MAX_EVENT = 16 << 20  # bytes: the longest tool call fits
MAX_BODY = 256 << 20  # bytes: the embeddings of a large batch fit

_decode = msgspec.json.Decoder(ResponseObject).decode
_KNOWN_FIELDS = frozenset({b"id", b"retry", b""})
_BOM = b"\xef\xbb\xbf"


class BodyReader:
    """Reader of a response in one body, which is parsed at its end."""

    def __init__(self, title: str, parse: Callable[[bytes, str], Iterable[Chunk]]) -> None:
        self._title = title
        self._parse = parse
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Buffer `data`; return no chunks."""
        self._size += len(data)
        if self._size > MAX_BODY:
            raise UpstreamGarbage(f"{self._title} sent a response of more than {MAX_BODY >> 20} MiB. Look at its log.")
        self._parts.append(data)
        return ()

    def close(self, is_delimited: bool = False) -> Iterable[Chunk]:
        """Return the chunks of the response."""
        body = b"".join(self._parts)
        if not body.strip():
            raise UpstreamCut(f"{self._title} sent an empty response. Try again; if it happens again, look at its log.")
        try:
            return tuple(self._parse(body, self._title))
        except DECODE_ERRORS as error:
            raise UpstreamGarbage(
                f"{self._title} sent a response that is not valid: {error}. Look at its log."
            ) from None


class EventStreamReader:
    """Reader of a stream of server-sent events, however its bytes are split."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._is_between_events = True  # no byte of the next event has arrived
        self._line_parts: list[bytes] = []  # of the incomplete line
        self._buffered_bytes = 0  # of the incomplete event
        self._data_lines: list[bytes] = []  # of the incomplete event
        self._event_name = b""
        self._done = False
        self._choice_count = 1
        self._finished_choices: set[int] = set()
        self._tool_calls: ToolCalls = {}
        self._has_events = False
        self._unknown_line = b""  # the first unknown line before the first event
        self._ended_with_cr = False
        self._is_at_start = True  # no byte but whitespace has arrived
        self._body_reader: BodyReader | None = None  # set when the server sent a body instead of a stream

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks that `data` completes. Chunks before an error are yielded before it is raised."""
        if (
            self._is_between_events
            and data[:7] == b"data: {"
            and data[-3:] == b"}\n\n"
            and data.find(b"\n") == len(data) - 2
        ):
            return self._read_event(data[6:-2])
        return self._split_lines(data)

    def close(self, is_delimited: bool = False) -> Iterator[Chunk]:
        """Return the remaining chunks. The end is `[DONE]` or a finish reason for every choice."""
        if self._body_reader is not None:
            yield from self._body_reader.close()
            return
        if self._line_parts:
            yield from self._read_line(b"".join(self._line_parts))
        if self._data_lines:
            yield from self._read_line(b"")
        if self._unknown_line and not self._has_events:
            raise self._not_a_stream()
        if not self._done and len(self._finished_choices) < self._choice_count:
            raise UpstreamCut(f"{self._title} ended the response before it was complete. Try again.")

    def _split_lines(self, data: bytes) -> Iterator[Chunk]:
        if self._is_at_start and not self._has_events:
            data, self._line_parts = b"".join((*self._line_parts, data)), []
            self._buffered_bytes = 0
            if not _BOM.startswith(data[:3]):
                self._is_at_start = not data.strip()
            elif len(data) < len(_BOM):  # the rest of a BOM may follow
                self._line_parts.append(data)
                return
            else:
                data = data.removeprefix(_BOM)
                self._is_at_start = not data.strip()
            if data.lstrip()[:1] == b"{":
                self._body_reader = BodyReader(self._title, parse_response)
        if self._body_reader is not None:
            self._body_reader.feed(data)
            return
        if b"\r" in data or self._ended_with_cr:
            data = self._normalize_line_ends(data)
        self._buffered_bytes += len(data)
        if b"\n" in data:
            lines = b"".join((*self._line_parts, data)).split(b"\n")
            self._line_parts = [lines.pop()]
            for line in lines:
                yield from self._read_line(line)
            self._buffered_bytes = len(self._line_parts[0]) + sum(map(len, self._data_lines))
        else:
            self._line_parts.append(data)
        self._is_between_events = not (self._buffered_bytes or self._event_name or self._ended_with_cr)
        if self._buffered_bytes > MAX_EVENT:
            raise UpstreamGarbage(f"{self._title} sent an event of more than {MAX_EVENT >> 20} MiB. Look at its log.")

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Replace CRLF and CR by LF; a CRLF may be split over two pieces."""
        if self._ended_with_cr:
            data = data.removeprefix(b"\n")
        self._ended_with_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _not_a_stream(self) -> UpstreamGarbage:
        return UpstreamGarbage(
            f"{self._title} sent a line that is not of an event stream: {self._unknown_line[:80]!r}. Check its address."
        )

    def _read_line(self, line: bytes) -> Iterable[Chunk]:
        if not line:
            data, self._data_lines = b"\n".join(self._data_lines), []
            name, self._event_name = self._event_name, b""
            return self._read_event(data, name) if data.strip() else ()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data_lines.append(value.removeprefix(b" "))
        elif field == b"event":
            self._event_name = value.strip()
        elif field == b"error":
            raise parse_stream_error(value.strip(), self._title)
        elif field not in _KNOWN_FIELDS and not self._has_events:
            self._unknown_line = self._unknown_line or line
            if line[:1] == b"<":
                raise self._not_a_stream()  # a web page
        return ()

    def _read_event(self, data: bytes, name: bytes = b"") -> Iterable[Chunk]:
        self._has_events = True
        if self._done:
            return ()
        try:
            event = _decode(data)
        except DECODE_ERRORS:
            text = data.strip()
            if text in {b"[DONE]", b"null"}:  # llama.cpp starts the stream of several prompts with a null
                self._done = text == b"[DONE]"
                return ()
            if name == b"error":
                raise parse_stream_error(data, self._title) from None
            event = self._decode_odd_event(data)
        choices = event.choices
        if choices is not None and len(choices) == 1 and event.usage is None:
            choice = choices[0]
            delta = choice.delta
            if (
                delta is not None
                and not choice.finish_reason
                and choice.logprobs is None
                and choice.index == 0
                and delta.content.__class__ is str
                and delta.tool_calls is None
                and delta.function_call is None
                and delta.reasoning_content is None
                and delta.reasoning is None
                and delta.refusal is None
            ):
                return (Chunk(delta.content),) if delta.content else ()
        return self._read_uncommon_event(event, data, name)

    def _decode_odd_event(self, data: bytes) -> ResponseObject:
        try:
            return decode_leniently(data)
        except DECODE_ERRORS as error:
            raise UpstreamGarbage(f"{self._title} sent an event that is not valid: {error}. Look at its log.") from None

    def _read_uncommon_event(self, event: ResponseObject, data: bytes, name: bytes) -> Iterable[Chunk]:
        is_error = name == b"error" or event.error not in NO_ERRORS
        if is_error or (event.choices is None and event.usage is None and extract_message(data)):
            raise parse_stream_error(data, self._title)
        chunks = tuple(build_chunks(event, self._title, self._tool_calls))
        for choice in event.choices or ():
            index = choice.index or 0
            self._choice_count = max(self._choice_count, index + 1)
            if has_finished(choice.finish_reason):
                self._finished_choices.add(index)
        return chunks
