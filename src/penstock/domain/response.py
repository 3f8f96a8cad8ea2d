"""Responses of engines: a stream of chunks, or the complete response.

Objects are not changed once they are handed on. Classes that every call needs are not declared frozen, since that
doubles the cost of creation.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from penstock.domain.content import ToolCall

MAX_TOKENS = 10**9
"""More tokens than one call can have."""


@dataclass(slots=True)
class Usage:
    """Token counts, and seconds if the engine reports them. `estimated` marks counts that the gateway estimated."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    load_seconds: float = 0.0
    prompt_seconds: float = 0.0
    completion_seconds: float = 0.0
    total_seconds: float = 0.0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Return the sum of prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


def clamp_usage(usage: Usage) -> Usage:
    """Return the usage with every count within 0 and MAX_TOKENS: a server may report anything."""
    if (
        0 <= usage.prompt_tokens <= MAX_TOKENS
        and 0 <= usage.completion_tokens <= MAX_TOKENS
        and 0 <= usage.cached_tokens <= MAX_TOKENS
        and 0 <= usage.reasoning_tokens <= MAX_TOKENS
    ):
        return usage
    return replace(
        usage,
        prompt_tokens=_clamp_count(usage.prompt_tokens),
        completion_tokens=_clamp_count(usage.completion_tokens),
        cached_tokens=_clamp_count(usage.cached_tokens),
        reasoning_tokens=_clamp_count(usage.reasoning_tokens),
    )


def _clamp_count(tokens: int) -> int:
    return min(max(tokens, 0), MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural log probability of a token, its bytes if known, and the most likely alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()


@dataclass(slots=True)
class ToolDelta:
    """A fragment of a tool call: the first of an `index` has `id` and `name`; `arguments` is a fragment."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Chunk:
    """Content of one event of an engine's stream. One is created for every token.

    `finish` is stop, length, tool_calls, content_filter, load or unload, only in the last chunk of a `choice`. `step`
    is a text on an agent's progress. `vectors` are embeddings in the order of the inputs (floats, or base64 of
    little-endian float32).
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolDelta, ...] = ()
    finish: str = ""
    usage: Usage | None = None
    choice: int = 0
    logprobs: tuple[Logprob, ...] = ()
    refusal: str = ""
    stop_sequence: str = ""
    step: str = ""
    vectors: tuple[tuple[float, ...] | str, ...] = ()
    context: tuple[int, ...] = ()
    thinking_signature: str = ""

    @property
    def has_content(self) -> bool:
        """Return whether the chunk is part of the response itself, not only bookkeeping."""
        return bool(self.text or self.thinking or self.tool_calls or self.finish or self.refusal or self.logprobs)


@dataclass(slots=True)
class Choice:
    """One of the alternatives that a request with `n` > 1 gets."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str = ""
    logprobs: tuple[Logprob, ...] = ()
    refusal: str = ""
    stop_sequence: str = ""
    context: tuple[int, ...] = ()
    thinking_signature: str = ""


@dataclass(slots=True)
class ModelResponse:
    """A complete response: choices by index, or vectors. `steps` are texts on an agent's progress."""

    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    vectors: tuple[tuple[float, ...] | str, ...] = ()
    steps: tuple[str, ...] = ()


class _ChoiceBuilder:
    """Collector of the chunks of one choice."""

    __slots__ = (
        "context", "finish", "logprobs", "refusal", "signature", "stop_sequence", "text", "thinking", "tool_calls",
    )  # fmt: skip

    def __init__(self) -> None:
        self.text = self.thinking = self.finish = self.refusal = self.stop_sequence = self.signature = ""
        self.tool_calls: dict[int, ToolDelta] = {}
        self.logprobs: list[Logprob] = []
        self.context: tuple[int, ...] = ()

    def add_chunk(self, chunk: Chunk) -> None:
        self.text += chunk.text
        self.thinking += chunk.thinking
        self.refusal += chunk.refusal
        self.finish = chunk.finish or self.finish
        self.stop_sequence = chunk.stop_sequence or self.stop_sequence
        self.context = chunk.context or self.context
        self.signature = chunk.thinking_signature or self.signature
        if chunk.logprobs:
            self.logprobs.extend(chunk.logprobs)
        for delta in chunk.tool_calls:
            call = self.tool_calls.setdefault(delta.index, ToolDelta(delta.index))
            call.id = call.id or delta.id
            call.name = call.name or delta.name
            call.arguments += delta.arguments

    def build_choice(self) -> Choice:
        return Choice(
            text=self.text,
            thinking=self.thinking,
            tool_calls=tuple(ToolCall(c.id, c.name, c.arguments) for _, c in sorted(self.tool_calls.items())),
            finish=self.finish,
            logprobs=tuple(self.logprobs),
            refusal=self.refusal,
            stop_sequence=self.stop_sequence,
            context=self.context,
            thinking_signature=self.signature,
        )


def assemble_response(chunks: Iterable[Chunk]) -> ModelResponse:
    """Combine the chunks of a stream into a complete response."""
    builders: dict[int, _ChoiceBuilder] = {}
    usage: Usage | None = None
    vectors: list[tuple[float, ...] | str] = []
    steps: list[str] = []
    for chunk in chunks:
        builder = builders.get(chunk.choice)
        if builder is None:
            builder = builders[chunk.choice] = _ChoiceBuilder()
        builder.add_chunk(chunk)
        usage = chunk.usage or usage
        vectors.extend(chunk.vectors)
        if chunk.step:
            steps.append(chunk.step)
    choices = tuple(builder.build_choice() for _, builder in sorted(builders.items()))
    return ModelResponse(choices, usage, tuple(vectors), tuple(steps))
