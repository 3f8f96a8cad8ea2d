"""Responses of Ollama: NDJSON lines of chat or generate, however they are split, or one object."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage
from penstock.engines.json_fields import DECODE_ERRORS
from penstock.engines.lenient_json import LenientDecoder

_ABSENT = msgspec.Raw()
_MAX_LINE = 64 * 1024 * 1024  # bytes, far above any real line
_MAX_BODY = 4 * _MAX_LINE  # many vectors in one response may be longer
_NANOSECONDS_PER_SECOND = 1e9
_FINISH_REASONS = frozenset({"stop", "length", "load", "unload"})


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = _ABSENT


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None
    id: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Logprob(msgspec.Struct, gc=False):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list["_Logprob"] | None = None


class _Line(msgspec.Struct, gc=False):
    """Line of any response: `message` of chat, `response` of generate, `embedding…` are vectors."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: msgspec.Raw = _ABSENT
    created_at: str | None = None
    tool_calls: list[_ToolCall] | None = None
    logprobs: list[_Logprob] | None = None
    context: list[int] | None = None
    embeddings: list[list[float]] | None = None
    embedding: list[float] | None = None
    total_duration: float | None = None
    load_duration: float | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: float | None = None
    eval_count: int | None = None
    eval_duration: float | None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_leniently = LenientDecoder(_Line, frozenset({"done"})).decode


class OllamaReader:
    """Parser of one response. `parse_error` turns the JSON of a line's `error` and `title` into an error.

    `may_stop_early`: the server ends the response of a model that repeats itself without a last line.
    """

    def __init__(
        self,
        title: str,
        parse_error: Callable[[bytes, str], PenstockError],
        *,
        streamed: bool,
        may_stop_early: bool = False,
    ) -> None:
        self._title = title
        self._parse_error = parse_error
        self._streamed = streamed
        self._may_stop_early = may_stop_early
        self._has_content = False
        self._line_parts: list[bytes] = []
        self._buffered_bytes = 0
        self._call_count = 0
        self._done = False

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks of the lines that `data` completes."""
        if not self._line_parts and self._streamed and data.endswith(b"}\n") and data.find(b"\n") == len(data) - 1:
            return self._read_line(data)
        return self._split_lines(data)

    def close(self, is_delimited: bool = False) -> Iterable[Chunk]:
        """Return the chunks of the rest: a response in one body, or a last line without a line feed.

        Ollama stops a model after some 30 equal tokens, and then ends the response well but without `done`: what came
        until then is the response.
        """
        rest = b"".join(self._line_parts).strip()
        self._line_parts.clear()
        cut = UpstreamCut(f"{self._title} ended its response before it was complete. Try again.")
        if rest:
            try:
                yield from self._read_line(rest)
            except UpstreamGarbage as garbage:
                raise (cut if rest.startswith(b"{") else garbage) from None
        if self._done:
            return
        if not (self._may_stop_early and is_delimited and self._has_content):
            raise cut
        yield Chunk(finish="tool_calls" if self._call_count else "length")

    def _split_lines(self, data: bytes) -> Iterator[Chunk]:
        if not self._streamed or b"\n" not in data:
            self._buffer(data)
            return
        *lines, rest = data.split(b"\n")
        if self._line_parts:
            lines[0] = b"".join(self._line_parts) + lines[0]
            self._line_parts.clear()
            self._buffered_bytes = 0
        if rest:
            self._buffer(rest)
        for line in lines:
            if line.strip():
                yield from self._read_line(line)

    def _buffer(self, data: bytes) -> None:
        self._line_parts.append(data)
        self._buffered_bytes += len(data)
        limit = _MAX_LINE if self._streamed else _MAX_BODY
        if self._buffered_bytes > limit:
            raise UpstreamGarbage(f"{self._title} sent more than {limit >> 20} MiB in one line. Look at its log.")

    def _read_line(self, line: bytes) -> tuple[Chunk, ...]:
        try:
            record = _decode(line)
        except DECODE_ERRORS:
            record = self._decode_odd_line(line)
        message = record.message
        if not record.done and record.logprobs is None:
            if message is None:
                if record.response and record.thinking is None and record.tool_calls is None:
                    self._has_content = True
                    return (Chunk(record.response),)
            elif message.content and message.thinking is None and message.tool_calls is None:
                self._has_content = True
                return (Chunk(message.content),)
        return self._read_uncommon_line(record)

    def _decode_odd_line(self, line: bytes) -> _Line:
        try:
            return _decode_leniently(line.removeprefix(b"\xef\xbb\xbf"))
        except DECODE_ERRORS:
            excerpt = "" if line.lstrip().startswith(b"{") else f": {line[:40]!r}"
            raise UpstreamGarbage(
                f"{self._title} sent a line that is not JSON of its protocol{excerpt}. Check its address."
            ) from None

    def _read_uncommon_line(self, record: _Line) -> tuple[Chunk, ...]:
        if len(record.error) and bytes(record.error) not in (b"null", b'""'):
            raise self._parse_error(bytes(record.error), self._title)
        if record.embeddings is not None or record.embedding is not None:
            return (self._build_vectors(record),)
        message = record.message or _Message()
        calls = self._build_tool_calls(record, (message.tool_calls or ()) or record.tool_calls or ())
        finish = ""
        if record.done:
            self._done = True
            finish = record.done_reason if record.done_reason in _FINISH_REASONS else "stop"
            if finish == "stop" and self._call_count:
                finish = "tool_calls"
        chunk = Chunk(
            message.content or record.response or "",
            message.thinking or record.thinking or "",
            calls,
            finish,
            _build_usage(record) if record.done else None,
            logprobs=tuple(_build_logprob(item) for item in record.logprobs or ()),
            context=tuple(record.context or ()),
        )
        self._has_content = self._has_content or bool(chunk.text or chunk.thinking or calls)
        is_filled = chunk.text or chunk.thinking or calls or finish or chunk.logprobs or chunk.context
        return (chunk,) if is_filled else ()

    def _build_vectors(self, record: _Line) -> Chunk:
        self._done = True
        vectors = record.embeddings if record.embeddings is not None else [record.embedding or []]
        return Chunk(vectors=tuple(tuple(vector) for vector in vectors if vector), usage=_build_usage(record))

    def _build_tool_calls(self, record: _Line, calls: Iterable[_ToolCall]) -> tuple[ToolDelta, ...]:
        """Build the tool calls, each complete. Before 0.12.10 they have no ids; then the id is a hash of the call."""
        deltas: list[ToolDelta] = []
        for call in calls:
            function = call.function or _Function()
            arguments = bytes(function.arguments).decode() or "{}"
            if arguments.startswith('"'):  # OpenAI's form, from servers that imitate Ollama
                arguments = msgspec.json.decode(arguments, type=str)
            name, index = function.name or "", self._call_count
            source = f"{record.created_at} {index} {name} {arguments}".encode()
            call_id = call.id or f"call_{hashlib.blake2s(source, digest_size=4).hexdigest()}"
            deltas.append(ToolDelta(index, call_id, name, arguments))
            self._call_count += 1
        return tuple(deltas)


def _build_usage(record: _Line) -> Usage | None:
    if not record.prompt_eval_count and not record.eval_count:
        return None
    return Usage(
        prompt_tokens=record.prompt_eval_count or 0,
        completion_tokens=record.eval_count or 0,
        load_seconds=(record.load_duration or 0) / _NANOSECONDS_PER_SECOND,
        prompt_seconds=(record.prompt_eval_duration or 0) / _NANOSECONDS_PER_SECOND,
        completion_seconds=(record.eval_duration or 0) / _NANOSECONDS_PER_SECOND,
        total_seconds=(record.total_duration or 0) / _NANOSECONDS_PER_SECOND,
    )


def _build_logprob(record: _Logprob) -> Logprob:
    return Logprob(
        record.token,
        record.logprob or 0.0,
        None if record.bytes is None else tuple(record.bytes),
        tuple(_build_logprob(item) for item in record.top_logprobs or ()),
    )
