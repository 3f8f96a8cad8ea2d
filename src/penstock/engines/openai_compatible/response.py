"""The objects that OpenAI-compatible servers answer with, and the chunks that they mean."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from penstock.domain.errors import UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage
from penstock.engines.openai_compatible.errors import stream_error

NULL = Raw(b"null")  # what is not there
_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
}


class FunctionObject(msgspec.Struct, gc=False):
    """A called function, or a piece of it; some servers send the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallObject(msgspec.Struct, gc=False):
    """A tool call, or a piece of it; some servers leave the index out."""

    index: int | None = None
    id: str | None = None
    function: FunctionObject | None = None


class TextPart(msgspec.Struct, gc=False):
    """A piece of content where a server sends a list of them: text, or thinking that is a list again."""

    type: str = ""
    text: str | None = None
    thinking: str | list["TextPart"] | None = None


class MessageObject(msgspec.Struct, gc=False):
    """A message or a delta of one. vLLM says `reasoning`, others `reasoning_content`, some both."""

    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    function_call: FunctionObject | None = None
    refusal: str | None = None


class ChoiceObject(msgspec.Struct, gc=False):
    """A choice of any endpoint: `delta` of a chat's stream, `message` of a whole one, `text` of a completion."""

    index: int = 0
    delta: MessageObject | None = None
    finish_reason: str | None = None
    logprobs: "Logprobs | None" = None
    text: str | None = None
    message: MessageObject | None = None
    stop_reason: str | int | None = None


class TokenDetails(msgspec.Struct, gc=False):
    """Of both kinds of tokens; each has its own member."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, gc=False):
    """Tokens spent."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Timings(msgspec.Struct, gc=False):
    """llama.cpp's own count: tokens from the cache, read anew and written, and milliseconds."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class AnswerObject(msgspec.Struct, gc=False):
    """A whole answer or an event of a stream."""

    choices: list[ChoiceObject] | None = None
    usage: UsageObject | None = None
    timings: Timings | None = None
    error: Raw = NULL


class TokenLogprob(msgspec.Struct, gc=False):
    """A token of a chat with its log probability."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list["TokenLogprob"] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Log probabilities: `content` as chats have them (llama.cpp's completions too), else parallel lists.

    The first token of an echo has no log probability.
    """

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class EmbeddingObject(msgspec.Struct, gc=False):
    """One vector: floats, or base64 of little-endian float32."""

    embedding: list[float] | str
    index: int = 0


class EmbeddingsObject(msgspec.Struct, gc=False):
    """The answer of `/v1/embeddings`."""

    data: list[EmbeddingObject] | None = None
    usage: UsageObject | None = None
    error: Raw = NULL


class CountObject(msgspec.Struct, gc=False):
    """A count of tokens: vLLM's `count`, llama.cpp's `input_tokens`."""

    count: int | None = None
    input_tokens: int | None = None


_answer = msgspec.json.Decoder(AnswerObject)
_embeddings = msgspec.json.Decoder(EmbeddingsObject)
_count = msgspec.json.Decoder(CountObject)


def parse_answer(body: bytes, title: str) -> Iterator[Chunk]:
    """The chunks of a whole chat or completion."""
    answer = _answer.decode(body)
    _check(answer.error, body, title)
    if answer.choices is None:
        raise UpstreamGarbage(f"{title} sent an answer without `choices`.")
    return chunks(answer, title)


def parse_embeddings(body: bytes, title: str) -> Iterator[Chunk]:
    """The vectors in the order of the inputs, and what they cost."""
    answer = _embeddings.decode(body)
    _check(answer.error, body, title)
    if answer.data is None:
        raise UpstreamGarbage(f"{title} sent embeddings without `data`.")
    found = [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
    vectors = tuple(vector if isinstance(vector, str) else tuple(vector) for vector in found)
    return iter((Chunk(vectors=vectors, usage=read_usage(AnswerObject(usage=answer.usage))),))


def parse_count(body: bytes, title: str) -> Iterator[Chunk]:
    """How many tokens a prompt has."""
    found = _count.decode(body)
    count = found.input_tokens if found.count is None else found.count
    if count is None:
        raise UpstreamGarbage(f"{title} sent no count of tokens.")
    return iter((Chunk(usage=Usage(prompt_tokens=count)),))


def _check(error: Raw, body: bytes, title: str) -> None:
    if error != NULL:
        raise stream_error(body, title)


def chunks(answer: AnswerObject, title: str) -> Iterator[Chunk]:
    """What one object adds; usage rides on the last of its chunks."""
    found = [_chunk(choice, title) for choice in answer.choices or ()]
    usage = read_usage(answer)
    if usage is not None:
        if not found:
            found.append(Chunk())
        found[-1].usage = usage
    for chunk in found:
        if chunk != Chunk(choice=chunk.choice):
            yield chunk


def _chunk(choice: ChoiceObject, title: str) -> Chunk:
    message = choice.delta or choice.message or MessageObject()
    text, thinking = _content(message.content if choice.text is None else choice.text)
    return Chunk(
        text=text,
        thinking=thinking or message.reasoning_content or message.reasoning or "",
        tool_calls=_tool_calls(message),
        finish="" if choice.finish_reason is None else _finish(choice.finish_reason, title),
        choice=choice.index,
        logprobs=_logprobs(choice.logprobs),
        refusal=message.refusal or "",
        stop_sequence=choice.stop_reason if isinstance(choice.stop_reason, str) else "",
    )


def _content(content: str | list[TextPart] | None) -> tuple[str, str]:
    if content is None or isinstance(content, str):
        return content or "", ""
    thinking = "".join("".join(_content(part.thinking)) for part in content if part.thinking is not None)
    return "".join(part.text or "" for part in content), thinking


def _finish(reason: str, title: str) -> str:
    if reason in {"abort", "error"}:
        raise UpstreamCut(f"{title} broke the answer off: try again.")
    return _FINISH.get(reason, "stop")


def _tool_calls(message: MessageObject) -> tuple[ToolDelta, ...]:
    calls = message.tool_calls or ()
    if message.function_call is not None:
        calls = (*calls, ToolCallObject(function=message.function_call))
    deltas = []
    for i, call in enumerate(calls):
        function = call.function or FunctionObject()
        index = i if call.index is None else call.index
        deltas.append(ToolDelta(index, call.id or "", function.name or "", _arguments(function.arguments)))
    return tuple(deltas)


def _arguments(arguments: str | dict[str, Any] | None) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()


def _logprobs(found: Logprobs | None) -> tuple[Logprob, ...]:
    if found is None:
        return ()
    if found.tokens is None:
        return tuple(_logprob(one) for one in found.content or ())
    tokens = found.tokens
    logprobs = found.token_logprobs or [None] * len(tokens)
    tops = found.top_logprobs or [None] * len(tokens)
    return tuple(
        Logprob(token, logprob or 0.0, None, tuple(Logprob(t, p) for t, p in (top or {}).items()))
        for token, logprob, top in zip(tokens, logprobs, tops, strict=False)
    )


def _logprob(one: TokenLogprob) -> Logprob:
    top = tuple(_logprob(other) for other in one.top_logprobs or ())
    return Logprob(one.token, one.logprob or 0.0, None if one.bytes is None else tuple(one.bytes), top)


def read_usage(answer: AnswerObject) -> Usage | None:
    """Tokens and, of llama.cpp, seconds; None where the answer does not tell."""
    usage, timings = answer.usage, answer.timings
    if usage is None or usage.prompt_tokens is None:
        return None if timings is None else _timed(timings)
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


def _timed(timings: Timings) -> Usage:
    return Usage(
        prompt_tokens=timings.cache_n + timings.prompt_n,
        completion_tokens=timings.predicted_n,
        cached_tokens=timings.cache_n,
        prompt_seconds=timings.prompt_ms / 1e3,
        completion_seconds=timings.predicted_ms / 1e3,
    )
