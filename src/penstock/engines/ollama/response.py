"""Reads Ollama's answers: NDJSON lines of chat or generate, however they are split, or one object."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage

_NONE = msgspec.Raw()
_LONGEST = 64 * 1024 * 1024  # bytes of a line; nothing honest comes near
_LONGEST_WHOLE = 4 * _LONGEST  # many vectors in one answer may
_NANOSECONDS = 1e9
_FINISHES = frozenset({"stop", "length", "load", "unload"})


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = _NONE


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function
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
    """A line of any of the answers; `message` is chat's, `response` generate's, `embedding…` are vectors."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: msgspec.Raw = _NONE
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
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reader:
    """Reads one answer. `complain` makes an error of the JSON of a line's `error`; `title` names the engine."""

    def __init__(self, title: str, complain: Callable[[bytes, str], PenstockError], *, streamed: bool) -> None:
        self._title = title
        self._complain = complain
        self._streamed = streamed
        self._held: list[bytes] = []
        self._held_size = 0
        self._calls = 0
        self._done = False

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """The chunks of the lines that these bytes complete."""
        if not self._held and self._streamed and data.endswith(b"}\n") and data.find(b"\n") == len(data) - 1:
            return self._one(data)
        return self._many(data)

    def close(self) -> Iterable[Chunk]:
        """What is left: a whole answer, or a last line without its end."""
        rest = b"".join(self._held).strip()
        self._held.clear()
        cut = UpstreamCut(f"{self._title} ended its answer before it was done.")
        if rest:
            try:
                yield from self._one(rest)
            except UpstreamGarbage as garbage:
                raise (cut if rest.startswith(b"{") else garbage) from None
        if not self._done:
            raise cut

    def _many(self, data: bytes) -> Iterator[Chunk]:
        if not self._streamed or b"\n" not in data:
            self._hold(data)
            return
        *lines, rest = data.split(b"\n")
        if self._held:
            lines[0] = b"".join(self._held) + lines[0]
            self._held.clear()
            self._held_size = 0
        if rest:
            self._hold(rest)
        for line in lines:
            if line.strip():
                yield from self._one(line)

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_size += len(data)
        most = _LONGEST if self._streamed else _LONGEST_WHOLE
        if self._held_size > most:
            raise UpstreamGarbage(f"{self._title} sent more than {most >> 20} MiB in one line.")

    def _one(self, line: bytes) -> tuple[Chunk, ...]:
        try:
            read = _decode(line)
        except _REFUSED:
            read = self._mended(line)
        message = read.message
        if not read.done and read.logprobs is None:
            if message is None:
                if read.response and read.thinking is None and read.tool_calls is None:
                    return (Chunk(read.response),)
            elif message.content and message.thinking is None and message.tool_calls is None:
                return (Chunk(message.content),)
        return self._rest(read)

    def _mended(self, line: bytes) -> _Line:
        try:
            return _decode(line.decode("utf-8", "replace").encode())
        except _REFUSED:
            shown = "" if line.lstrip().startswith(b"{") else f": {line[:40]!r}"
            raise UpstreamGarbage(f"{self._title} sent what its protocol does not allow{shown}.") from None

    def _rest(self, read: _Line) -> tuple[Chunk, ...]:
        if len(read.error) and bytes(read.error) not in (b"null", b'""'):
            raise self._complain(bytes(read.error), self._title)
        if read.embeddings is not None or read.embedding is not None:
            return (self._vectors(read),)
        message = read.message or _Message()
        calls = self._tool_calls(read, (message.tool_calls or ()) or read.tool_calls or ())
        finish = ""
        if read.done:
            self._done = True
            finish = read.done_reason if read.done_reason in _FINISHES else "stop"
            if finish == "stop" and self._calls:
                finish = "tool_calls"
        chunk = Chunk(
            message.content or read.response or "",
            message.thinking or read.thinking or "",
            calls,
            finish,
            _usage(read) if read.done else None,
            logprobs=tuple(_logprob(one) for one in read.logprobs or ()),
            context=tuple(read.context or ()),
        )
        known = chunk.text or chunk.thinking or calls or finish or chunk.logprobs or chunk.context
        return (chunk,) if known else ()

    def _vectors(self, read: _Line) -> Chunk:
        self._done = True
        vectors = read.embeddings if read.embeddings is not None else [read.embedding or []]
        return Chunk(vectors=tuple(tuple(vector) for vector in vectors if vector), usage=_usage(read))

    def _tool_calls(self, read: _Line, calls: Iterable[_ToolCall]) -> tuple[ToolDelta, ...]:
        """Each comes whole. Before 0.12.10 they had no ids: one is made of what the line says."""
        deltas: list[ToolDelta] = []
        for call in calls:
            arguments = bytes(call.function.arguments).decode() or "{}"
            name, index = call.function.name or "", self._calls
            said = f"{read.created_at} {index} {name} {arguments}".encode()
            identity = call.id or f"call_{hashlib.blake2s(said, digest_size=4).hexdigest()}"
            deltas.append(ToolDelta(index, identity, name, arguments))
            self._calls += 1
        return tuple(deltas)


def _usage(read: _Line) -> Usage | None:
    if not read.prompt_eval_count and not read.eval_count:
        return None
    return Usage(
        prompt_tokens=read.prompt_eval_count or 0,
        completion_tokens=read.eval_count or 0,
        load_seconds=(read.load_duration or 0) / _NANOSECONDS,
        prompt_seconds=(read.prompt_eval_duration or 0) / _NANOSECONDS,
        completion_seconds=(read.eval_duration or 0) / _NANOSECONDS,
        total_seconds=(read.total_duration or 0) / _NANOSECONDS,
    )


def _logprob(read: _Logprob) -> Logprob:
    return Logprob(
        read.token,
        read.logprob or 0.0,
        None if read.bytes is None else tuple(read.bytes),
        tuple(_logprob(one) for one in read.top_logprobs or ()),
    )
