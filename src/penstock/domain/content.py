"""What callers ask and engines answer, in the one form that every dialect and engine translates to and from.

A JSON text that is only carried (a schema, a tool's parameters, an option nobody here needs to understand) stays
`Json`: its bytes, unparsed. An absent value is None, or empty where the dialects do not tell the two apart. Nobody
changes one of these once it is made; the four that every translated call makes are not frozen by name, since that
doubles the cost of making them.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = bytes


@dataclass(slots=True, unsafe_hash=True)
class Text:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: base64 `data` with its `media_type`, or a `url` that the engine is to fetch."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audio:
    """A sound: base64 `data`, `format` such as `wav` or `mp3`."""

    data: str
    format: str


@dataclass(frozen=True, slots=True)
class File:
    """A document: base64 `data` with its `media_type`, a `url`, or an `id` on the engine."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    name: str = ""
    id: str = ""


Part: TypeAlias = Text | Image | Audio | File


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wants made. `arguments` is the JSON text as the model wrote it, whole."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True, unsafe_hash=True)
class Message:
    """One turn. `role` is system, developer, user, assistant or tool; a tool's result names its call."""

    role: str
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    thinking: str = ""
    thinking_signature: str = ""
    refusal: str = ""
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON schema, empty when there is none."""

    name: str
    description: str = ""
    parameters: Json = b""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is auto, none, required or function (then `name` says which)."""

    mode: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """The form asked of the answer: any JSON when `schema` is empty, else JSON that fits it."""

    schema: Json = b""
    name: str = ""
    strict: bool | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether to think aloud, how hard (`effort`: minimal, low, medium, high, max) and within how many tokens."""

    enabled: bool = True
    effort: str = ""
    budget: int | None = None


@dataclass(slots=True, unsafe_hash=True)
class Sampling:
    """How tokens are drawn; None leaves it to the engine. `n` is the number of answers wanted."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    n: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


@dataclass(slots=True, unsafe_hash=True)
class Chat:
    """A conversation to go on with.

    `extra` holds fields of the caller's dialect that have no place here, as (name, JSON): an engine that speaks the
    same dialect gets them back, another ignores or refuses them. `options` likewise holds engine options (Ollama's
    `num_ctx`, vLLM's `guided_…`) that only that kind of engine knows.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: Format | None = None
    sampling: Sampling = field(default_factory=Sampling)
    thinking: Thinking | None = None
    keep_alive: Json = b""
    user: str = ""
    options: tuple[tuple[str, Json], ...] = ()
    extra: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Raw text to continue, without a chat template. Each of `prompts` is a text or a list of token ids."""

    prompts: tuple[str | tuple[int, ...], ...]
    suffix: str = ""
    echo: bool = False
    format: Format | None = None
    sampling: Sampling = field(default_factory=Sampling)
    images: tuple[Image, ...] = ()
    keep_alive: Json = b""
    options: tuple[tuple[str, Json], ...] = ()
    extra: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts (or token lists) to turn into vectors."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False
    truncate: bool | None = None
    keep_alive: Json = b""
    options: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class AgentTask:
    """A goal for an agent. `session` names a running conversation; `plan` asks only for the plan."""

    goal: str
    history: tuple[Message, ...] = ()
    expert: str = ""
    mode: str = ""
    session: str = ""
    plan: bool = False
    sampling: Sampling = field(default_factory=Sampling)


Content: TypeAlias = Chat | Completion | Embedding | AgentTask
