"""Answers drawn as Ollama draws them: NDJSON lines or one object, key for key in its order.

Every number that is 0 is left out, durations are integer nanoseconds, `model` is what the caller wrote.
Source: the structs and their order in Ollama's `api/types.go`.
"""

import array
import base64
import sys
import time
import uuid
from collections.abc import Callable, Iterable

import msgspec

from penstock.dialects.go_json import one_line, quoted
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage
from penstock.domain.response_metadata import Provenance

NDJSON = b"application/x-ndjson"
JSON = b"application/json; charset=utf-8"

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_SECOND = 1_000_000_000
_FINISHES = {"length": b'"length"', "load": b'"load"', "unload": b'"unload"'}

Clock = Callable[[], int]


def render_error(error: PenstockError, _request_id: str = "") -> bytes:
    """The body of an error response."""
    return b'{"error":%b}' % quoted(error.message)


def instant(nanoseconds: int) -> bytes:
    """A UTC time (nanoseconds since the epoch) in RFC 3339 with up to nine digits of fraction, as Go prints it."""
    second, fraction = divmod(nanoseconds, _SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
    digits = (b".%09d" % fraction).rstrip(b"0") if fraction else b""
    return text + digits + b"Z"


class AnswerRenderer:
    """Renderer of chats and generated text, which differ in where the text and the context stand.

    `clock` gives nanoseconds since the epoch. Fragments of a tool call are collected until the call is complete, since
    `arguments` is an object on this wire. The last line waits for `render_end`, since engines report token counts last.
    """

    def __init__(self, call: Call, provenance: Provenance, *, generate: bool, clock: Clock = time.time_ns) -> None:
        self._clock = clock
        self._provenance = provenance
        self._generate = generate
        self._stream = call.stream
        self._model = quoted(call.model)
        self._started = int(provenance.created * _SECOND) or clock()
        self._first = 0
        self._second = -1
        self._head = b""
        self._calls: dict[int, ToolDelta] = {}
        self._finish = ""
        self._usage: Usage | None = None
        self._context: tuple[int, ...] = ()
        self._open = b'Z","response":' if generate else b'Z","message":{"role":"assistant","content":'
        self._tail = b',"done":false}\n' if generate else b'},"done":false}\n'

    @property
    def content_type(self) -> bytes:
        """NDJSON when it streams."""
        return NDJSON if self._stream else JSON

    def render_chunk(self, chunk: Chunk) -> bytes:
        """The line for a piece of text, thinking or logprobs; tool calls as soon as they are whole."""
        plain = not (chunk.finish or chunk.tool_calls or chunk.thinking or chunk.logprobs or chunk.usage or chunk.step)
        if not plain or chunk.choice or chunk.refusal or chunk.context:
            return self._unusual(chunk)
        if not chunk.text:
            return b""
        return self._begin() + quoted(chunk.text) + self._tail

    def render_end(self) -> bytes:
        """The line with `done`, the reason, durations and counts."""
        lines = self._called()
        now = self._clock()
        usage = self._usage or Usage()
        spent = _nanoseconds(usage, now - self._started, now - self._first if self._first else 0)
        last = self._line("", finish=self._finish or "stop", spent=spent, context=self._context)
        if resumed := self._provenance.resumed:
            last = b'%b,"penstock":{"resumed":%d}}\n' % (last[:-2], resumed)
        return lines + last

    def render_error(self, error: PenstockError) -> bytes:
        """A last line with the error."""
        return render_error(error) + b"\n"

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """One object with everything in it."""
        choice = answer.choices[0] if answer.choices else Choice()
        spent = b""
        if choice.finish not in ("load", "unload"):
            usage = answer.usage or Usage()
            taken = round(provenance.total_seconds * _SECOND) or self._clock() - self._started
            generating = (provenance.total_seconds - provenance.ttft_seconds) if provenance.ttft_seconds else 0.0
            spent = _nanoseconds(usage, taken, round(generating * _SECOND))
        calls, broken = _whole_calls(choice.tool_calls)
        line = self._line(
            choice.text + choice.refusal + broken,
            thinking=choice.thinking or "\n".join(answer.steps),
            calls=calls,
            logprobs=choice.logprobs,
            finish=choice.finish or "stop",
            spent=spent,
            context=choice.context,
        )
        return line[:-1]

    def _begin(self) -> bytes:
        """The line's beginning up to its text. Its first half changes once a second only."""
        now = self._clock()
        second, fraction = divmod(now, _SECOND)
        if second != self._second:
            self._second = second
            self._first = self._first or now
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            self._head = b'{"model":%b,"created_at":"%b' % (self._model, stamp)
        if fraction % 10:
            return b"%b.%09d%b" % (self._head, fraction, self._open)
        return self._head + (b".%09d" % fraction).rstrip(b"0").rstrip(b".") + self._open

    def _unusual(self, chunk: Chunk) -> bytes:
        if chunk.choice:
            return b""
        self._usage = chunk.usage or self._usage
        self._context = chunk.context or self._context
        text, thinking = chunk.text + chunk.refusal, chunk.thinking
        if chunk.step:
            thinking += chunk.step + "\n"
        lines = b""
        if text or thinking or chunk.logprobs:
            lines = self._line(text, thinking=thinking, logprobs=chunk.logprobs)
        for delta in chunk.tool_calls:
            call = self._calls.setdefault(delta.index, ToolDelta(delta.index))
            call.id = call.id or delta.id
            call.name = call.name or delta.name
            call.arguments += delta.arguments
        if chunk.finish:
            self._finish = chunk.finish
            lines += self._called()
        return lines

    def _called(self) -> bytes:
        """The line with the tool calls collected so far."""
        if not self._calls:
            return b""
        collected = [ToolCall(c.id, c.name, c.arguments) for _, c in sorted(self._calls.items())]
        self._calls.clear()
        calls, broken = _whole_calls(collected)
        return self._line(broken, calls=calls)

    def _line(
        self,
        text: str,
        *,
        thinking: str = "",
        calls: bytes = b"",
        logprobs: tuple[Logprob, ...] = (),
        finish: str = "",
        spent: bytes = b"",
        context: tuple[int, ...] = (),
    ) -> bytes:
        parts = [self._begin(), quoted(text)]
        if thinking:
            parts += (b',"thinking":', quoted(thinking))
        if calls and not self._generate:
            parts += (b',"tool_calls":', calls)
        if not self._generate:
            parts.append(b"}")
        done = b',"done":true,"done_reason":' + _FINISHES.get(finish, b'"stop"')
        parts.append(done if finish else b',"done":false')
        drawn = b',"logprobs":' + _logprobs(logprobs) if logprobs else b""
        if self._generate:
            if context:
                parts += (b',"context":', _encode(context))
            parts.append(spent)
            if calls:
                parts += (b',"tool_calls":', calls)
            parts.append(drawn)
        else:
            parts += (drawn, spent)
        parts.append(b"}\n")
        return b"".join(parts)


class VectorRenderer:
    """Draws embeddings: `single` is the older answer of one vector and nothing else."""

    content_type = JSON

    def __init__(self, call: Call, provenance: Provenance, *, single: bool, clock: Clock = time.time_ns) -> None:
        self._model = quoted(call.model)
        self._single = single
        self._clock = clock
        self._started = int(provenance.created * _SECOND) or clock()

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Embeddings do not stream."""
        return b""

    def render_end(self) -> bytes:
        """Embeddings do not stream."""
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        """The error as a body."""
        return render_error(error)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """The vectors in the order of the inputs."""
        vectors = [floats(vector) for vector in answer.vectors]
        if self._single:
            return b'{"embedding":%b}' % _encode(vectors[0] if vectors else ())
        usage = answer.usage or Usage()
        told = usage.total_seconds or provenance.total_seconds
        taken = round(told * _SECOND) or self._clock() - self._started
        numbers = (
            (b"total_duration", taken if vectors else 0),
            (b"load_duration", int(usage.load_seconds * _SECOND)),
            (b"prompt_eval_count", usage.prompt_tokens),
        )
        return b'{"model":%b,"embeddings":%b%b}' % (self._model, _encode(vectors), _counted(numbers))


def floats(vector: tuple[float, ...] | str) -> tuple[float, ...]:
    """A vector as numbers, also from base64 of little-endian float32."""
    if not isinstance(vector, str):
        return vector
    numbers = array.array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


def _whole_calls(calls: Iterable[ToolCall]) -> tuple[bytes, str]:
    """The calls as JSON, and as text those whose arguments are no object: the wire has no other place for them.

    A model cut off in mid-call leaves such; Ollama too hands what it cannot parse on as text.
    """
    drawn: list[bytes] = []
    broken = ""
    for call in calls:
        arguments = _object(call.arguments)
        if arguments is None:
            broken += f'{{"name": "{call.name}", "arguments": {call.arguments}'
            continue
        identity = quoted(call.id or f"call_{uuid.uuid4().hex[:8]}")
        function = b'{"index":%d,"name":%b,"arguments":%b}' % (len(drawn), quoted(call.name), arguments)
        drawn.append(b'{"id":%b,"function":%b}' % (identity, function))
    return (b"[%b]" % b",".join(drawn) if drawn else b""), broken


def _object(arguments: str) -> bytes | None:
    """The arguments as a JSON object on one line, None when they are not one; none at all are an empty one."""
    try:
        value = _decode(arguments or "{}")
        if value is None:
            return b"{}"
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return one_line(msgspec.json.format(arguments.encode() or b"{}", indent=-1))


def _logprobs(logprobs: tuple[Logprob, ...]) -> bytes:
    return b"[%b]" % b",".join(_logprob(logprob) for logprob in logprobs)


def _logprob(logprob: Logprob) -> bytes:
    drawn = b'{"token":%b,"logprob":%b' % (quoted(logprob.token), _encode(logprob.logprob))
    if logprob.bytes:
        drawn += b',"bytes":' + _encode(logprob.bytes)
    if logprob.top:
        drawn += b',"top_logprobs":' + _logprobs(logprob.top)
    return drawn + b"}"


def _nanoseconds(usage: Usage, taken: int, generating: int) -> bytes:
    """Durations and counts; where the engine tells no times, what was measured here stands in."""
    return _counted(
        (
            (b"total_duration", round(usage.total_seconds * _SECOND) or taken),
            (b"load_duration", round(usage.load_seconds * _SECOND)),
            (b"prompt_eval_count", usage.prompt_tokens),
            (b"prompt_eval_duration", round(usage.prompt_seconds * _SECOND)),
            (b"eval_count", usage.completion_tokens),
            (b"eval_duration", round(usage.completion_seconds * _SECOND) or generating),
        )
    )


def _counted(numbers: Iterable[tuple[bytes, int]]) -> bytes:
    return b"".join(b',"%b":%d' % (name, number) for name, number in numbers if number > 0)
