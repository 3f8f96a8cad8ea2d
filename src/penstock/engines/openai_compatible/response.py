"""Response objects of OpenAI-compatible servers, and their conversion to chunks."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from penstock.domain.errors import UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage
from penstock.engines.lenient_json import LenientDecoder
from penstock.engines.openai_compatible.errors import parse_stream_error
from penstock.engines.openai_compatible.tool_calls import ToolCallCollector

NULL = Raw(b"null")  # the default of an absent field
NO_ERRORS = (NULL, Raw(b'""'), Raw(b"false"))
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "max_tokens": "length",
    "max_length": "length",
    "max_new_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filtered": "content_filter",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
# Reasons of a response that failed. `insufficient_system_resource` is DeepSeek's, `network_error` is Zhipu's.
_FAILURES = frozenset(
    {
        *("abort", "aborted", "cancel", "cancelled", "canceled", "error", "failed", "failure", "timeout", "timed_out"),
        *("network_error", "server_error", "internal_error", "internal_server_error", "engine_error", "overloaded"),
        *("insufficient_system_resource", "insufficient_system_resources", "unavailable", "service_unavailable"),
    }
)
_NO_REASONS = frozenset({"", "null", "none"})


class FunctionObject(msgspec.Struct, gc=False):
    """A called function or a part of it; some servers send the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallObject(msgspec.Struct, gc=False):
    """A tool call or a part of it; some servers leave the index out."""

    index: int | None = None
    id: str | None = None
    function: FunctionObject | None = None


class TextPart(msgspec.Struct, gc=False):
    """Part of content that is a list: text, or thinking, which may be a list again."""

    type: str = ""
    text: str | None = None
    thinking: str | list["TextPart"] | None = None


class MessageObject(msgspec.Struct, gc=False):
    """A message or a delta of one. vLLM sends `reasoning`, others `reasoning_content`, some both."""

    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    function_call: FunctionObject | None = None
    refusal: str | None = None


class ChoiceObject(msgspec.Struct, gc=False):
    """Choice of any endpoint: `delta` in a chat's stream, `message` in a chat's body, `text` in a completion."""

    index: int | None = 0
    delta: MessageObject | None = None
    finish_reason: str | None = None
    logprobs: "Logprobs | None" = None
    text: str | None = None
    message: MessageObject | None = None
    stop_reason: str | int | None = None


class TokenDetails(msgspec.Struct, gc=False):
    """Details of prompt tokens (`cached_tokens`) or completion tokens (`reasoning_tokens`)."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, gc=False):
    """Numbers of tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Timings(msgspec.Struct, gc=False):
    """llama.cpp's numbers of cached, processed and generated tokens, and milliseconds."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class ResponseObject(msgspec.Struct, gc=False):
    """Response in one body, or an event of a stream."""

    choices: list[ChoiceObject] | None = None
    usage: UsageObject | None = None
    timings: Timings | None = None
    error: Raw = NULL


class TokenLogprob(msgspec.Struct, gc=False):
    """Token of a chat with its log probability."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list["TokenLogprob"] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Log probabilities: `content` in chats and llama.cpp's completions, parallel lists in other completions.

    The first token of an echoed prompt has no log probability.
    """

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class EmbeddingObject(msgspec.Struct, gc=False):
    """Vector as floats, or as base64 of little-endian float32."""

    embedding: list[float] | str
    index: int | None = None


class EmbeddingsObject(msgspec.Struct, gc=False):
    """Response of `/v1/embeddings`."""

    data: list[EmbeddingObject] | None = None
    usage: UsageObject | None = None
    error: Raw = NULL


class TokenCountObject(msgspec.Struct, gc=False):
    """Number of tokens: vLLM's `count`, llama.cpp's `input_tokens`."""

    count: int | None = None
    input_tokens: int | None = None


_decode_response = msgspec.json.Decoder(ResponseObject).decode
_decode_embeddings = msgspec.json.Decoder(EmbeddingsObject).decode
_decode_token_count = msgspec.json.Decoder(TokenCountObject).decode
decode_leniently = LenientDecoder(ResponseObject).decode
_decode_embeddings_leniently = LenientDecoder(EmbeddingsObject).decode

ToolCalls = dict[int, ToolCallCollector]
"""Tool calls of a stream, by choice."""


def has_finished(reason: str | None) -> bool:
    """Return whether a finish reason is one: some servers send an empty one in each event before the last."""
    return bool(reason) and reason.strip().lower() not in _NO_REASONS  # type: ignore[union-attr]


def parse_response(body: bytes, title: str) -> Iterator[Chunk]:
    """Parse the body of a chat or completion."""
    try:
        response = _decode_response(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        response = decode_leniently(body)
    _raise_error(response.error, body, title)
    if response.choices is None:
        raise UpstreamGarbage(f"{title} sent a response without `choices`. Check that the server is of this kind.")
    return build_chunks(response, title)


def parse_embeddings(body: bytes, title: str) -> Iterator[Chunk]:
    """Parse the body of an embedding: the vectors in the order of the inputs, and the usage."""
    try:
        response = _decode_embeddings(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        response = _decode_embeddings_leniently(body)
    _raise_error(response.error, body, title)
    if response.data is None:
        raise UpstreamGarbage(f"{title} sent embeddings without `data`. Check that the server is of this kind.")
    items = response.data
    if all(item.index is not None for item in items):
        items = sorted(items, key=lambda item: item.index or 0)
    embeddings = [item.embedding for item in items]
    vectors = tuple(vector if isinstance(vector, str) else tuple(vector) for vector in embeddings)
    return iter((Chunk(vectors=vectors, usage=build_usage(ResponseObject(usage=response.usage))),))


def parse_token_count(body: bytes, title: str) -> Iterator[Chunk]:
    """Parse the number of tokens in a prompt."""
    response = _decode_token_count(body)
    count = response.input_tokens if response.count is None else response.count
    if count is None:
        raise UpstreamGarbage(f"{title} sent no number of tokens. Check that the server is of this kind.")
    return iter((Chunk(usage=Usage(prompt_tokens=count)),))


def _raise_error(error: Raw, body: bytes, title: str) -> None:
    if error not in NO_ERRORS:
        raise parse_stream_error(body, title)


def build_chunks(response: ResponseObject, title: str, tool_calls: ToolCalls | None = None) -> Iterator[Chunk]:
    """Build the chunks of one object; the last of them has the usage.

    `tool_calls` are those of the events before; None for a complete response.
    """
    chunks = [_build_chunk(choice, title, tool_calls) for choice in response.choices or ()]
    usage = build_usage(response)
    if usage is not None:
        if not chunks:
            chunks.append(Chunk())
        chunks[-1].usage = usage
    for chunk in chunks:
        if chunk != Chunk(choice=chunk.choice):
            yield chunk


def _build_chunk(choice: ChoiceObject, title: str, tool_calls: ToolCalls | None) -> Chunk:
    index = choice.index or 0
    message = choice.delta or choice.message or MessageObject()
    text, thinking = _split_content(message.content if choice.text is None else choice.text)
    return Chunk(
        text=text,
        thinking=thinking or message.reasoning_content or message.reasoning or "",
        tool_calls=_build_tool_calls(message, index, tool_calls),
        finish=_finish_reason(choice.finish_reason or "", title) if has_finished(choice.finish_reason) else "",
        choice=index,
        logprobs=_build_logprobs(choice.logprobs),
        refusal=message.refusal or "",
        stop_sequence=choice.stop_reason if isinstance(choice.stop_reason, str) else "",
    )


def _split_content(content: str | list[TextPart] | None) -> tuple[str, str]:
    if content is None or isinstance(content, str):
        return content or "", ""
    thinking = "".join("".join(_split_content(part.thinking)) for part in content if part.thinking is not None)
    return "".join(part.text or "" for part in content), thinking


def _finish_reason(reason: str, title: str) -> str:
    reason = reason.strip().lower()
    if reason in _FAILURES:
        raise UpstreamCut(f"{title} aborted the response ({reason}). Try again.")
    return _FINISH_REASONS.get(reason, "stop")


def _build_tool_calls(message: MessageObject, choice: int, tool_calls: ToolCalls | None) -> tuple[ToolDelta, ...]:
    calls = message.tool_calls or ()
    if message.function_call is not None:
        calls = (*calls, ToolCallObject(function=message.function_call))
    if not calls:
        return ()
    deltas = []
    for position, call in enumerate(calls):
        function = call.function or FunctionObject()
        # Each entry of a complete message is a call, whatever its index.
        delta = ToolDelta(position, call.id or "", function.name or "", _encode_arguments(function.arguments))
        if tool_calls is not None:
            collector = tool_calls.get(choice)
            if collector is None:
                collector = tool_calls[choice] = ToolCallCollector()
            collector.add_fragment(delta, call.index, position if len(calls) > 1 else None)
        deltas.append(delta)
    return tuple(deltas)


def _encode_arguments(arguments: str | dict[str, Any] | None) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()


def _build_logprobs(logprobs: Logprobs | None) -> tuple[Logprob, ...]:
    if logprobs is None:
        return ()
    if logprobs.tokens is None:
        return tuple(map(_build_logprob, logprobs.content or ()))
    tokens = logprobs.tokens
    values = logprobs.token_logprobs or [None] * len(tokens)
    alternatives = logprobs.top_logprobs or [None] * len(tokens)
    return tuple(
        Logprob(token, value or 0.0, None, tuple(Logprob(*item) for item in (top or {}).items()))
        for token, value, top in zip(tokens, values, alternatives, strict=False)
    )


def _build_logprob(item: TokenLogprob) -> Logprob:
    top = tuple(map(_build_logprob, item.top_logprobs or ()))
    return Logprob(item.token, item.logprob or 0.0, None if item.bytes is None else tuple(item.bytes), top)


def build_usage(response: ResponseObject) -> Usage | None:
    """Return the numbers of tokens and llama.cpp's times in seconds; None if the response has neither."""
    usage, timings = response.usage, response.timings
    if usage is None or usage.prompt_tokens is None:
        return None if timings is None else _usage_from_timings(timings)
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    reasoning = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=cached or 0,
        reasoning_tokens=reasoning or 0,
        prompt_seconds=timings.prompt_ms / 1e3 if timings else 0.0,
        completion_seconds=timings.predicted_ms / 1e3 if timings else 0.0,
    )


def _usage_from_timings(timings: Timings) -> Usage:
    return Usage(
        prompt_tokens=timings.cache_n + timings.prompt_n,
        completion_tokens=timings.predicted_n,
        cached_tokens=timings.cache_n,
        prompt_seconds=timings.prompt_ms / 1e3,
        completion_seconds=timings.predicted_ms / 1e3,
    )
