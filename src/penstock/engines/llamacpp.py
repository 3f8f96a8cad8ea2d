"""llama.cpp's `llama-server`."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from penstock.domain.content import Chat, Completion, Content, Embedding, Thinking
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse
from penstock.engines.continuation import begun
from penstock.engines.openai_compatible.base import EFFORTS, OpenAIWire
from penstock.engines.openai_compatible.errors import sentence
from penstock.engines.openai_compatible.inventory import read_listing

_CAPABILITIES = {"multimodal": "vision"}


class Meta(msgspec.Struct):
    """What the server knows of a model; sizes in bytes, `n_ctx` is a slot's context."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_params: int | None = None
    size: int | None = None
    ftype: str | None = None


class Status(msgspec.Struct):
    """Whether a server of several models has this one loaded."""

    value: str = "loaded"


class Entry(msgspec.Struct):
    """A model under `data`."""

    id: str
    aliases: list[str] = []
    meta: Meta | None = None
    status: Status | None = None


class Described(msgspec.Struct):
    """The same model under `models`, in Ollama's manner."""

    name: str = ""
    capabilities: list[str] = []


class Listing(msgspec.Struct):
    """`/v1/models`."""

    data: list[Entry]
    models: list[Described] = []


class Props(msgspec.Struct):
    """`/props`: slots, what goes in, the build."""

    total_slots: int = 0
    modalities: dict[str, bool] = {}
    build_info: str = ""
    chat_template: str = ""


_listing = msgspec.json.Decoder(Listing)
_props = msgspec.json.Decoder(Props)


class LlamaCpp(OpenAIWire):
    """llama.cpp serves one model under any name, and answers 503 while it loads."""

    kind: ClassVar[str] = "llamacpp"
    title: ClassVar[str] = "llama.cpp"
    defaults: ClassVar[KindDefaults] = KindDefaults(port=8080)
    loads_on_demand: ClassVar[bool] = True
    operations: ClassVar[frozenset[Operation]] = OpenAIWire.operations | {Operation.COUNT}
    options: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: name for name in ("repeat_last_n", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta")}
    )
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            *("logit_bias", "grammar", "json_schema", "chat_template_kwargs", "reasoning_format", "cache_prompt"),
            *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "xtc_probability"),
            *("xtc_threshold", "dynatemp_range", "dynatemp_exponent", "top_n_sigma", "samplers", "ignore_eos"),
            *("n_keep", "id_slot", "n_probs", "add_generation_prompt", "best_of"),
        }
    )
    hints: ClassVar[frozenset[str]] = frozenset({"verbosity"})

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Streamed even for a caller who wants the whole: only in a stream does it notice that nobody listens any more.

        Seen with b11669: an unstreamed answer is generated to its end, however long, after the connection has gone.
        """
        if call.operation in (Operation.CHAT, Operation.COMPLETION) and not call.stream:
            call = replace(call, stream=True)
        return super().translate_request(call, content, model)

    def chat(self, chat: Chat) -> dict[str, Any]:
        """Its name for the repeat penalty is another."""
        return _own_names(super().chat(chat))

    def completion(self, completion: Completion) -> dict[str, Any]:
        """It would pass over a suffix and an echo without a word, and takes a schema in its own field."""
        if completion.suffix or completion.echo:
            name = "suffix" if completion.suffix else "echo"
            raise Unsupported(f"llama.cpp cannot do `{name}` in completions: leave it out, or ask another.", param=name)
        fields = _own_names(super().completion(completion))
        if completion.format is not None:
            del fields["response_format"]
            fields["json_schema"] = Raw(completion.format.schema or b"{}")
        return fields

    def embedding(self, embedding: Embedding) -> dict[str, Any]:
        """It would pass over the dimensions without a word."""
        if embedding.dimensions is not None:
            raise Unsupported(
                "llama.cpp cannot shorten embeddings: leave `dimensions` out, or ask another.", param="dimensions"
            )
        return super().embedding(embedding)

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """A trailing turn of the assistant's is gone on with, but not together with thinking."""
        if not isinstance(content, Chat):
            return super().build_continuation(call, content, model, said)
        return self.translate_request(call, replace(begun(content, said), thinking=Thinking(enabled=False)), model)

    def thinking(self, thinking: Thinking) -> dict[str, Any]:
        """By the chat template, and within a number of tokens."""
        template: dict[str, Any] = {"enable_thinking": thinking.enabled}
        fields: dict[str, Any] = {"chat_template_kwargs": template}
        if thinking.enabled and thinking.effort:
            template["reasoning_effort"] = EFFORTS.get(thinking.effort, thinking.effort)
        if thinking.enabled and thinking.budget is not None:
            fields["thinking_budget_tokens"] = thinking.budget
        return fields

    def count(self, fields: dict[str, Any]) -> EngineRequest:
        """Applies the chat template and counts; versions before it answer 404."""
        return EngineRequest("/v1/chat/completions/input_tokens", msgspec.json.encode(fields))

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Whether it has loaded, its models with their context and size, its slots and what it can see and hear."""
        health = yield FetchRequest("/health", optional=True)
        if health.status == 503:
            return Inventory(known_models, State.LOADING, detail=sentence(health.body) or "it is loading its model")
        listing = read_listing((yield FetchRequest("/v1/models")), _listing, self.title, "/v1/models")
        props = _read_props((yield FetchRequest("/props", optional=True)))
        return Inventory(_models(listing, props), State.UP, version=props.build_info, slots=props.total_slots)


def _own_names(fields: dict[str, Any]) -> dict[str, Any]:
    if "repetition_penalty" in fields:
        fields["repeat_penalty"] = fields.pop("repetition_penalty")
    return fields


def _read_props(fetched: FetchResponse) -> Props:
    try:
        return _props.decode(fetched.body) if fetched.status == 200 else Props()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Props()


def _models(listing: Listing, props: Props) -> tuple[Model, ...]:
    described = {model.name: model.capabilities for model in listing.models}
    told = _abilities(props) if len(listing.data) == 1 else frozenset()  # of several, it is not told whose they are
    return tuple(_model(entry, told.union(described.get(entry.id, ())), props) for entry in listing.data)


def _abilities(props: Props) -> frozenset[str]:
    """What goes in, and what the chat template has a place for."""
    template = props.chat_template
    found = {name for name in ("vision", "audio") if props.modalities.get(name)}
    if "tools" in template:
        found.add("tools")
    if "enable_thinking" in template or "<think>" in template:
        found.add("thinking")
    return frozenset(found)


def _model(entry: Entry, capabilities: frozenset[str], props: Props) -> Model:
    meta = entry.meta or Meta()
    return Model(
        entry.id,
        size=meta.size or 0,
        parameters=_parameters(meta.n_params or 0),
        quantization=_quantization(meta.ftype or ""),
        format="gguf",
        context_length=meta.n_ctx or meta.n_ctx_train or 0,
        embedding_length=meta.n_embd or 0,
        capabilities=frozenset(_CAPABILITIES.get(name, name) for name in capabilities),
        loaded=entry.status is None or entry.status.value == "loaded",
        aliases=tuple(alias for alias in entry.aliases if alias != entry.id),
        template=props.chat_template,
    )


def _quantization(ftype: str) -> str:
    """`Q4_K - Medium` in the short form that models are named by: `Q4_K_M`."""
    name, _, size = ftype.removeprefix("all ").partition(" - ")
    return f"{name}_{size[0]}" if size else name


def _parameters(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count) if count else ""


ENGINE = LlamaCpp()
