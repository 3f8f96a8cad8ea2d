"""Content of requests, in one form that every dialect and engine translates to and from.

JSON that the gateway does not interpret (a schema, tool parameters, unknown options) stays `Json`: unparsed bytes. An
absent value is None, or empty where dialects do not distinguish the two. No object is changed after it is created.
The four classes that every translated call needs are not declared frozen, since that doubles the cost of creation.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = bytes


@dataclass(slots=True)
class Text:
    """A text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: base64 `data` with its `media_type`, or a `url` that the engine must fetch."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audio:
    """An audio clip: base64 `data`, `format` such as `wav` or `mp3`."""

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
    """A tool call of a model. `arguments` is the complete JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Message:
    """A message. `role` is system, developer, user, assistant or tool; a tool's result has the id of its call."""

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
        """Return the text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON schema, or empty."""

    name: str
    description: str = ""
    parameters: Json = b""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Choice of a tool: `mode` is auto, none, required, or function with its `name`."""

    mode: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """Requested format of the response: JSON that matches `schema`, or any JSON if it is empty."""

    schema: Json = b""
    name: str = ""
    strict: bool | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Settings for thinking. `effort` is minimal, low, medium, high or max; `budget` is the maximum of tokens.

    A wish, which a model that cannot think leaves out, unless `is_required`. `fields` are the names by which the
    client asked.
    """

    enabled: bool = True
    effort: str = ""
    budget: int | None = None
    fields: tuple[str, ...] = field(default=("thinking",), compare=False)
    is_required: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Sampling:
    """Sampling parameters; None is the engine's default. `n` is the number of choices."""

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


@dataclass(slots=True)
class Chat:
    """A conversation to continue.

    `extra` has other fields of the client's dialect, as (name, JSON): engines of the same dialect get them back,
    others leave them out or refuse them. `options` likewise has options that only one kind of engine supports (Ollama's
    `num_ctx`, vLLM's `guided_…`). `ignored` names what the dialect has left out because no engine can do it.
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
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Raw text to continue without a chat template. Each of `prompts` is a text or a list of token ids."""

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
    """Texts or token lists to embed."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False
    truncate: bool | None = None
    keep_alive: Json = b""
    options: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class AgentTask:
    """A goal for an agent. `session` is the id of a conversation; `plan` requests only a plan."""

    goal: str
    history: tuple[Message, ...] = ()
    expert: str = ""
    mode: str = ""
    session: str = ""
    plan: bool = False
    sampling: Sampling = field(default_factory=Sampling)


Content: TypeAlias = Chat | Completion | Embedding | AgentTask
