"""What comes back from an engine: a stream of chunks, or the whole that they add up to.

Nobody changes one of these once it is made; those that every call makes are not frozen by name, since that doubles the
cost of making them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.domain.content import ToolCall


@dataclass(slots=True)
class Usage:
    """Tokens spent, and where the engine tells, seconds. `estimated` marks counts that we made ourselves.

    Not frozen: one is made for every call; nobody changes it.
    """

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
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token's log probability (natural), its bytes where known, and the likeliest others."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()


@dataclass(slots=True)
class ToolDelta:
    """A piece of a tool call: the first of an `index` carries `id` and `name`; `arguments` is a fragment."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Chunk:
    """What one event of an engine's stream adds. Not frozen: one is made for every token.

    `finish` is stop, length, tool_calls, content_filter, load or unload, once, in the last chunk of a `choice`.
    `step` is an agent's progress in words. `vectors` are embeddings in the order of the inputs (floats, or base64 of
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


@dataclass(slots=True, unsafe_hash=True)
class Choice:
    """One of the answers."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str = ""
    logprobs: tuple[Logprob, ...] = ()
    refusal: str = ""
    stop_sequence: str = ""
    context: tuple[int, ...] = ()
    thinking_signature: str = ""


@dataclass(slots=True, unsafe_hash=True)
class ModelResponse:
    """A whole answer: its choices by index, or vectors; `steps` is what an agent said on the way."""

    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    vectors: tuple[tuple[float, ...] | str, ...] = ()
    steps: tuple[str, ...] = ()


class _Draft:
    """One choice as it grows."""

    __slots__ = ("calls", "context", "finish", "logprobs", "refusal", "signature", "stop_sequence", "text", "thinking")

    def __init__(self) -> None:
        self.text = self.thinking = self.finish = self.refusal = self.stop_sequence = self.signature = ""
        self.calls: dict[int, ToolDelta] = {}
        self.logprobs: list[Logprob] = []
        self.context: tuple[int, ...] = ()

    def add(self, chunk: Chunk) -> None:
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
            call = self.calls.setdefault(delta.index, ToolDelta(delta.index))
            call.id = call.id or delta.id
            call.name = call.name or delta.name
            call.arguments += delta.arguments

    def choice(self) -> Choice:
        calls = tuple(ToolCall(c.id, c.name, c.arguments) for _, c in sorted(self.calls.items())) if self.calls else ()
        return Choice(
            self.text,
            self.thinking,
            calls,
            self.finish,
            tuple(self.logprobs),
            self.refusal,
            self.stop_sequence,
            self.context,
            self.signature,
        )


def assemble_response(chunks: Iterable[Chunk]) -> ModelResponse:
    """Add a stream's chunks up to the answer that they tell."""
    drafts: dict[int, _Draft] = {}
    usage: Usage | None = None
    vectors: list[tuple[float, ...] | str] = []
    steps: list[str] = []
    for chunk in chunks:
        draft = drafts.get(chunk.choice)
        if draft is None:
            draft = drafts[chunk.choice] = _Draft()
        draft.add(chunk)
        usage = chunk.usage or usage
        vectors.extend(chunk.vectors)
        if chunk.step:
            steps.append(chunk.step)
    choices = tuple(draft.choice() for _, draft in sorted(drafts.items()))
    return ModelResponse(choices, usage, tuple(vectors), tuple(steps))
