"""Rendering of responses in Ollama's format: NDJSON lines or one object, with the keys in Ollama's order.

Numbers that are 0 are left out, durations are integer nanoseconds, `model` is the name that the client sent.
Source: the structs and their order in Ollama's `api/types.go`.
"""

import array
import base64
import sys
import time
import uuid
from collections.abc import Callable, Iterable

import msgspec

from penstock.dialects.base import UnstreamedRenderer
from penstock.dialects.go_json import encode_string, escape_line_separators
from penstock.domain.content import ToolCall
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage

NDJSON = b"application/x-ndjson"
JSON = b"application/json; charset=utf-8"

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_SECOND = 1_000_000_000
_DONE_REASONS = {"length": b'"length"', "load": b'"load"', "unload": b'"unload"'}

Clock = Callable[[], int]


def render_error(error: PenstockError, _request_id: str = "") -> bytes:
    """Render the body of an error response: what Ollama itself said, else what the gateway says."""
    return b'{"error":%b}' % encode_string(error.engine_message or error.message)


def format_instant(nanoseconds: int) -> bytes:
    """Format nanoseconds since the epoch as RFC 3339 in UTC, with up to nine fractional digits, as Go does."""
    second, fraction = divmod(nanoseconds, _SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
    digits = (b".%09d" % fraction).rstrip(b"0") if fraction else b""
    return text + digits + b"Z"


class ChatRenderer:
    """Renderer of chats and generated text, which differ in where the text and the context stand.

    `clock` gives nanoseconds since the epoch. Fragments of a tool call are collected until the call is complete, since
    `arguments` is an object on this wire. The last line waits for `render_end`, since engines report token counts last.
    """

    def __init__(self, call: Call, provenance: Provenance, *, generate: bool, clock: Clock = time.time_ns) -> None:
        self._clock = clock
        self._provenance = provenance
        self._generate = generate
        self._is_streamed = call.stream
        self._model = encode_string(call.model)
        self._started_at = int(provenance.created * _SECOND) or clock()
        self._first_rendered_at = 0
        self._prefix_second = -1
        self._prefix = b""
        self._tool_calls: dict[int, ToolDelta] = {}
        self._finish = ""
        self._usage: Usage | None = None
        self._context: tuple[int, ...] = ()
        self._before_text = b'Z","response":' if generate else b'Z","message":{"role":"assistant","content":'
        self._after_text = b',"done":false}\n' if generate else b'},"done":false}\n'

    @property
    def content_type(self) -> bytes:
        """Return the type of NDJSON if the call streams, else of JSON."""
        return NDJSON if self._is_streamed else JSON

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Render the line of a chunk; tool calls when they are complete. Plain text takes the short way."""
        is_plain = not (
            chunk.finish or chunk.tool_calls or chunk.thinking or chunk.logprobs or chunk.usage or chunk.step
        )
        if not is_plain or chunk.choice or chunk.refusal or chunk.context:
            return self._render_any(chunk)
        if not chunk.text:
            return b""
        return self._render_prefix() + encode_string(chunk.text) + self._after_text

    def render_end(self) -> bytes:
        """Render the line with `done`, the reason, durations and counts."""
        lines = self._render_tool_calls()
        now = self._clock()
        usage = self._usage or Usage()
        counts = _render_counts(
            usage, now - self._started_at, now - self._first_rendered_at if self._first_rendered_at else 0
        )
        last = self._render_line("", finish=self._finish or "stop", counts=counts, context=self._context)
        if resumed := self._provenance.resumed:
            last = b'%b,"penstock":{"resumed":%d}}\n' % (last[:-2], resumed)
        return lines + last

    def render_error(self, error: PenstockError) -> bytes:
        """Render a last line with the error."""
        return render_error(error) + b"\n"

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the response as one object."""
        choice = response.choices[0] if response.choices else Choice()
        counts = b""
        if choice.finish not in ("load", "unload"):
            usage = response.usage or Usage()
            total = round(provenance.total_seconds * _SECOND) or self._clock() - self._started_at
            generating = (provenance.total_seconds - provenance.ttft_seconds) if provenance.ttft_seconds else 0.0
            counts = _render_counts(usage, total, round(generating * _SECOND))
        calls, invalid_calls = _encode_tool_calls(choice.tool_calls)
        line = self._render_line(
            choice.text + choice.refusal + invalid_calls,
            thinking=choice.thinking or "\n".join(response.steps),
            calls=calls,
            logprobs=choice.logprobs,
            finish=choice.finish or "stop",
            counts=counts,
            context=choice.context,
        )
        return line[:-1]

    def _render_prefix(self) -> bytes:
        """Render the beginning of a line, up to its text. The first half is rendered once a second, for speed."""
        now = self._clock()
        second, fraction = divmod(now, _SECOND)
        if second != self._prefix_second:
            self._prefix_second = second
            self._first_rendered_at = self._first_rendered_at or now
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            self._prefix = b'{"model":%b,"created_at":"%b' % (self._model, stamp)
        if fraction % 10:
            return b"%b.%09d%b" % (self._prefix, fraction, self._before_text)
        return self._prefix + (b".%09d" % fraction).rstrip(b"0").rstrip(b".") + self._before_text

    def _render_any(self, chunk: Chunk) -> bytes:
        if chunk.choice:
            return b""
        self._usage = chunk.usage or self._usage
        self._context = chunk.context or self._context
        text, thinking = chunk.text + chunk.refusal, chunk.thinking
        if chunk.step:
            thinking += chunk.step + "\n"
        lines = b""
        if text or thinking or chunk.logprobs:
            lines = self._render_line(text, thinking=thinking, logprobs=chunk.logprobs)
        for delta in chunk.tool_calls:
            call = self._tool_calls.setdefault(delta.index, ToolDelta(delta.index))
            call.id = call.id or delta.id
            call.name = call.name or delta.name
            call.arguments += delta.arguments
        if chunk.finish:
            self._finish = chunk.finish
            lines += self._render_tool_calls()
        return lines

    def _render_tool_calls(self) -> bytes:
        """Render the line with the tool calls collected so far."""
        if not self._tool_calls:
            return b""
        collected = [ToolCall(c.id, c.name, c.arguments) for _, c in sorted(self._tool_calls.items())]
        self._tool_calls.clear()
        calls, invalid_calls = _encode_tool_calls(collected)
        return self._render_line(invalid_calls, calls=calls)

    def _render_line(
        self,
        text: str,
        *,
        thinking: str = "",
        calls: bytes = b"",
        logprobs: tuple[Logprob, ...] = (),
        finish: str = "",
        counts: bytes = b"",
        context: tuple[int, ...] = (),
    ) -> bytes:
        parts = [self._render_prefix(), encode_string(text)]
        if thinking:
            parts += (b',"thinking":', encode_string(thinking))
        if calls and not self._generate:
            parts += (b',"tool_calls":', calls)
        if not self._generate:
            parts.append(b"}")
        done = b',"done":true,"done_reason":' + _DONE_REASONS.get(finish, b'"stop"')
        parts.append(done if finish else b',"done":false')
        encoded_logprobs = b',"logprobs":' + _encode_logprobs(logprobs) if logprobs else b""
        if self._generate:
            if context:
                parts += (b',"context":', _encode(context))
            parts.append(counts)
            if calls:
                parts += (b',"tool_calls":', calls)
            parts.append(encoded_logprobs)
        else:
            parts += (encoded_logprobs, counts)
        parts.append(b"}\n")
        return b"".join(parts)


class EmbeddingRenderer(UnstreamedRenderer):
    """Renderer of embeddings; `single` selects the older format of one vector and nothing else."""

    content_type = JSON

    def __init__(self, call: Call, provenance: Provenance, *, single: bool, clock: Clock = time.time_ns) -> None:
        self._model = encode_string(call.model)
        self._single = single
        self._clock = clock
        self._started_at = int(provenance.created * _SECOND) or clock()

    def render_error(self, error: PenstockError) -> bytes:
        """Render the error as a body."""
        return render_error(error)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the vectors in the order of the inputs."""
        vectors = [_to_floats(vector) for vector in response.vectors]
        if self._single:
            return b'{"embedding":%b}' % _encode(vectors[0] if vectors else ())
        usage = response.usage or Usage()
        seconds = usage.total_seconds or provenance.total_seconds
        total = round(seconds * _SECOND) or self._clock() - self._started_at
        numbers = (
            (b"total_duration", total if vectors else 0),
            (b"load_duration", int(usage.load_seconds * _SECOND)),
            (b"prompt_eval_count", usage.prompt_tokens),
        )
        return b'{"model":%b,"embeddings":%b%b}' % (self._model, _encode(vectors), _render_numbers(numbers))


def _to_floats(vector: tuple[float, ...] | str) -> tuple[float, ...]:
    """Return a vector as numbers; a text is base64 of little-endian float32."""
    if not isinstance(vector, str):
        return vector
    numbers = array.array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


def _encode_tool_calls(calls: Iterable[ToolCall]) -> tuple[bytes, str]:
    """Return the calls as JSON, and as text those whose arguments are not an object.

    A model that stops in the middle of a call leaves such arguments; Ollama also returns what it cannot parse as text.
    """
    encoded_calls: list[bytes] = []
    invalid = ""
    for call in calls:
        arguments = _encode_arguments(call.arguments)
        if arguments is None:
            invalid += f'{{"name": "{call.name}", "arguments": {call.arguments}'
            continue
        identity = encode_string(call.id or f"call_{uuid.uuid4().hex[:8]}")
        function = b'{"index":%d,"name":%b,"arguments":%b}' % (len(encoded_calls), encode_string(call.name), arguments)
        encoded_calls.append(b'{"id":%b,"function":%b}' % (identity, function))
    return (b"[%b]" % b",".join(encoded_calls) if encoded_calls else b""), invalid


def _encode_arguments(arguments: str) -> bytes | None:
    """Return the arguments as a JSON object on one line, None if they are not an object. No arguments are `{}`."""
    try:
        value = _decode(arguments or "{}")
        if value is None:
            return b"{}"
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return escape_line_separators(msgspec.json.format(arguments.encode() or b"{}", indent=-1))


def _encode_logprobs(logprobs: tuple[Logprob, ...]) -> bytes:
    return b"[%b]" % b",".join(_encode_logprob(logprob) for logprob in logprobs)


def _encode_logprob(logprob: Logprob) -> bytes:
    encoded = b'{"token":%b,"logprob":%b' % (encode_string(logprob.token), _encode(logprob.logprob))
    if logprob.bytes:
        encoded += b',"bytes":' + _encode(logprob.bytes)
    if logprob.top:
        encoded += b',"top_logprobs":' + _encode_logprobs(logprob.top)
    return encoded + b"}"


def _render_counts(usage: Usage, total: int, generating: int) -> bytes:
    """Render durations and counts. Measured durations replace those that the server did not report."""
    return _render_numbers(
        (
            (b"total_duration", round(usage.total_seconds * _SECOND) or total),
            (b"load_duration", round(usage.load_seconds * _SECOND)),
            (b"prompt_eval_count", usage.prompt_tokens),
            (b"prompt_eval_duration", round(usage.prompt_seconds * _SECOND)),
            (b"eval_count", usage.completion_tokens),
            (b"eval_duration", round(usage.completion_seconds * _SECOND) or generating),
        )
    )


def _render_numbers(numbers: Iterable[tuple[bytes, int]]) -> bytes:
    return b"".join(b',"%b":%d' % (name, number) for name, number in numbers if number > 0)
