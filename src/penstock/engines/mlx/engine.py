"""The MLX API server: Ollama-like in its lists and lines, with the limit of tokens at the top level.

It has one prompt in and one text out, and in newer versions chats; no tools, no images, no token counts.
"""

from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from penstock.domain.content import AgentTask, Chat, Completion, Content, Message, Sampling, Text
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.mlx.errors import read_failure, stream_error
from penstock.engines.mlx.inventory import look
from penstock.engines.ollama.response import Reader as LineReader

_encode = msgspec.json.encode
# What asks for nothing: an engine that does not know the setting does the same.
_NEUTRAL: dict[str, tuple[float | None, ...]] = {
    "top_p": (None, 1.0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0.0),
    "seed": (None,),
    "presence_penalty": (None, 0.0),
    "frequency_penalty": (None, 0.0),
    "repeat_penalty": (None, 1.0),
    "n": (None, 1),
    "top_logprobs": (None, 0),
}
_HARMLESS = frozenset(
    {
        *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("prediction", "user", "stream_options", "keep_alive", "truncate", "shift"),
    }
)
_NOTHING = frozenset({b"null", b"false", b"{}", b"[]", b'""'})
_ROLES = {"developer": "system", "tool": "user"}
_SPEAKERS = {"user": "User", "assistant": "Assistant"}


class Mlx:
    """A server at the address of MLX_API_URL. A plain `mlx_lm.server` speaks OpenAI's API and is another kind."""

    kind: ClassVar[str] = "mlx"
    title: ClassVar[str] = "MLX API server"
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=11435, api_paths=("/v1", "/api"), local_probe="always", url_variables=("MLX_API_URL",)
    )
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loads_on_demand: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.AGENT})

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Never asked for: no caller speaks this wire."""
        raise Unsupported(f"The {self.title} is not asked in {call.wire}.")

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """A chat, and for older versions the same as one prompt; raises Unsupported."""
        if call.operation is Operation.COUNT:
            raise Unsupported(f"The {self.title} cannot count tokens.")
        if isinstance(content, AgentTask):
            return self._chat(call, _conversation(content), model)
        if isinstance(content, Chat):
            return self._chat(call, content, model)
        if isinstance(content, Completion):
            return self._completion(call, content, model)
        raise Unsupported(f"The {self.title} makes no embeddings: ask another server for them.")

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """It cannot be told that a turn goes on."""
        return None

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """What reads its lines; they come labelled as plain JSON."""
        return LineReader(self.title, stream_error, streamed=outgoing.stream)

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """The error that an error response tells of; 429, 503 and 504 mean that it is busy."""
        return read_failure(status, body, retry_after, self.title)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """How it feels and what it has."""
        return look(self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """A key, where a proxy before it wants one."""
        return bearer_headers(api_key)

    def _chat(self, call: Call, chat: Chat, model: Model) -> EngineRequest:
        asked = {
            "tools": chat.tools and (chat.tool_choice is None or chat.tool_choice.mode != "none"),
            "response_format": chat.format,
            "thinking": chat.thinking is not None and chat.thinking.enabled and chat.thinking.budget is None,
        }
        self._refuse(asked, chat.sampling, chat.extra + chat.options)
        turns = [(message.role, self._text(message)) for message in chat.messages]
        messages = [{"role": _ROLES.get(role, role), "content": text} for role, text in turns]
        common = _common(call, model, chat.sampling)
        prompt = _encode({"prompt": _flattened(turns)} | common)
        return EngineRequest(
            "/api/chat",
            _encode({"messages": messages} | common),
            stream=call.stream,
            fallback=EngineRequest("/api/generate", prompt, stream=call.stream),
        )

    def _completion(self, call: Call, completion: Completion, model: Model) -> EngineRequest:
        prompts = completion.prompts
        asked = {
            "suffix": completion.suffix,
            "echo": completion.echo,
            "response_format": completion.format,
            "images": completion.images,
            "prompt (several texts)": len(prompts) > 1,
            "prompt (token ids)": any(not isinstance(prompt, str) for prompt in prompts),
        }
        raw = tuple((name, value) for name, value in completion.extra if name != "raw")
        self._refuse(asked, completion.sampling, raw + completion.options)
        body = _encode({"prompt": prompts[0] if prompts else ""} | _common(call, model, completion.sampling))
        return EngineRequest("/api/generate", body, stream=call.stream)

    def _refuse(self, asked: Mapping[str, object], sampling: Sampling, extra: tuple[tuple[str, bytes], ...]) -> None:
        """Raise Unsupported for the first thing asked that it cannot do."""
        wanted = [name for name, value in asked.items() if value]
        wanted += [name for name, neutral in _NEUTRAL.items() if getattr(sampling, name) not in neutral]
        wanted += ["stop"] if sampling.stop else []
        wanted += ["logprobs"] if sampling.logprobs else []
        wanted += [name for name, value in extra if name not in _HARMLESS and value.strip() not in _NOTHING]
        if wanted:
            raise Unsupported(f"The {self.title} cannot do `{wanted[0]}`: leave it out.", param=wanted[0].split()[0])

    def _text(self, message: Message) -> str:
        """A message's text, and what was called and answered as words: the model sees it, though it cannot call."""
        if not all(isinstance(part, Text) for part in message.parts):
            raise Unsupported(f"The {self.title} takes text only: send no images, audio or files.", param="messages")
        calls = "".join(f"\n[{call.name}({call.arguments})]" for call in message.tool_calls)
        return (message.text or message.refusal) + calls


def _conversation(task: AgentTask) -> Chat:
    if task.plan:
        raise Unsupported("The MLX API server makes no plans: it answers, Victoria plans.", param="plan")
    expert = (Message("system", (Text(f"Answer as {task.expert}."),)),) if task.expert else ()
    return Chat((*expert, *task.history, Message("user", (Text(task.goal),))), sampling=task.sampling)


def _common(call: Call, model: Model, sampling: Sampling) -> dict[str, Any]:
    common: dict[str, Any] = {"stream": call.stream}
    if model.name:
        common["model"] = model.name
    if sampling.max_tokens is not None:
        common["max_tokens"] = sampling.max_tokens
    if sampling.temperature is not None:
        common["temperature"] = sampling.temperature
    return common


def _flattened(turns: list[tuple[str, str]]) -> str:
    """A conversation as one prompt. A single question stands alone; else each turn has its speaker before it."""
    system = [text for role, text in turns if role in ("system", "developer")]
    spoken = [(role, text) for role, text in turns if role not in ("system", "developer")]
    if len(spoken) == 1:
        return "\n\n".join([*system, spoken[0][1]])
    return "\n\n".join([*system, *(f"{_SPEAKERS.get(role, 'Tool')}: {text}" for role, text in spoken), "Assistant:"])


ENGINE = Mlx()
