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
from penstock.engines.continuation import append_assistant_text
from penstock.engines.json_fields import DECODE_ERRORS
from penstock.engines.lenient_json import LenientDecoder
from penstock.engines.openai_compatible.base import EFFORTS, OpenAICompatible
from penstock.engines.openai_compatible.errors import extract_message
from penstock.engines.openai_compatible.inventory import parse_entries

_CAPABILITY_NAMES = {"multimodal": "vision"}


class Meta(msgspec.Struct):
    """Metadata of a model: `size` in bytes, `n_ctx` is the context of one slot."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_params: int | None = None
    size: int | None = None
    ftype: str | None = None


class Status(msgspec.Struct):
    """Load state of a model on a server with several models."""

    value: str = "loaded"


class Entry(msgspec.Struct):
    """Entry of `data`."""

    id: str
    aliases: list[str] | None = None
    meta: Meta | None = None
    status: Status | None = None


class OllamaEntry(msgspec.Struct):
    """Entry of `models`, which lists the same models in Ollama's format."""

    name: str = ""
    capabilities: list[str] | None = None


class OllamaListing(msgspec.Struct):
    """Second half of the response of `/v1/models`."""

    models: list[OllamaEntry] | None = None


class Props(msgspec.Struct):
    """Response of `/props`."""

    total_slots: int | None = None
    modalities: dict[str, bool] | None = None
    build_info: str | None = None
    chat_template: str | None = None


_decode_entry = LenientDecoder(Entry).decode
_decode_ollama_listing = LenientDecoder(OllamaListing).decode
_decode_props = LenientDecoder(Props).decode


class LlamaCpp(OpenAICompatible):
    """llama.cpp server. It serves one model under any name and answers 503 while loading it."""

    kind: ClassVar[str] = "llamacpp"
    title: ClassVar[str] = "llama.cpp"
    defaults: ClassVar[KindDefaults] = KindDefaults(port=8080)
    loads_on_demand: ClassVar[bool] = True
    operations: ClassVar[frozenset[Operation]] = OpenAICompatible.operations | {Operation.COUNT}
    option_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: name for name in ("repeat_last_n", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta")}
    )
    extra_fields: ClassVar[frozenset[str]] = frozenset(
        {
            *("logit_bias", "grammar", "json_schema", "chat_template_kwargs", "reasoning_format", "cache_prompt"),
            *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "xtc_probability"),
            *("xtc_threshold", "dynatemp_range", "dynatemp_exponent", "top_n_sigma", "samplers", "ignore_eos"),
            *("n_keep", "id_slot", "n_probs", "add_generation_prompt", "best_of"),
        }
    )

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build the request, as a stream even for callers that want one body.

        Without streaming, llama.cpp generates to the end after the client has disconnected (seen with b11669).
        """
        if call.operation in (Operation.CHAT, Operation.COMPLETION) and not call.stream:
            call = replace(call, stream=True)
        return super().translate_request(call, content, model)

    def translate_chat(self, chat: Chat) -> dict[str, Any]:
        """Build the fields of a chat with llama.cpp's name for the repetition penalty."""
        return _rename_repeat_penalty(super().translate_chat(chat))

    def translate_completion(self, completion: Completion) -> dict[str, Any]:
        """Build the fields of a completion. Refuse `suffix` and `echo`, which llama.cpp ignores silently."""
        if completion.suffix or completion.echo:
            name = "suffix" if completion.suffix else "echo"
            raise Unsupported(
                f"llama.cpp does not support `{name}` in completions. Leave it out or use another server.", param=name
            )
        fields = _rename_repeat_penalty(super().translate_completion(completion))
        if completion.format is not None:
            del fields["response_format"]
            fields["json_schema"] = Raw(completion.format.schema or b"{}")
        return fields

    def translate_embedding(self, embedding: Embedding) -> dict[str, Any]:
        """Build the fields of an embedding. Refuse `dimensions`, which llama.cpp ignores silently."""
        if embedding.dimensions is not None:
            raise Unsupported(
                "llama.cpp cannot shorten embeddings. Leave `dimensions` out or use another server.",
                param="dimensions",
            )
        return super().translate_embedding(embedding)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Send the text so far as the last message, with thinking disabled, since it rejects the two together."""
        if not isinstance(content, Chat):
            return super().build_continuation(call, content, model, sent_text)
        chat = replace(append_assistant_text(content, sent_text), thinking=Thinking(enabled=False))
        return self.translate_request(call, chat, model)

    def translate_thinking(self, thinking: Thinking) -> dict[str, Any]:
        """Set the chat template's switch and effort, and the budget in tokens."""
        template_args: dict[str, Any] = {"enable_thinking": thinking.enabled}
        fields: dict[str, Any] = {"chat_template_kwargs": template_args}
        if thinking.enabled and thinking.effort:
            template_args["reasoning_effort"] = EFFORTS.get(thinking.effort, thinking.effort)
        if thinking.enabled and thinking.budget is not None:
            fields["thinking_budget_tokens"] = thinking.budget
        return fields

    def build_count_request(self, fields: dict[str, Any]) -> EngineRequest:
        """Use the endpoint that applies the chat template; older versions answer 404."""
        return EngineRequest("/v1/chat/completions/input_tokens", msgspec.json.encode(fields))

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read whether the model is loaded, the models with context and size, the slots and the modalities."""
        health = yield FetchRequest("/health", optional=True)
        if health.status == 503:
            return Inventory(
                known_models, State.LOADING, detail=extract_message(health.body) or "it is loading its model"
            )
        fetched = yield FetchRequest("/v1/models")
        entries = parse_entries(fetched, self.title, "/v1/models", _decode_entry)
        props = _parse_props((yield FetchRequest("/props", optional=True)))
        models = _build_models(entries, _parse_ollama_entries(fetched), props)
        return Inventory(models, State.UP, version=props.build_info or "", slots=max(0, props.total_slots or 0))


def _rename_repeat_penalty(fields: dict[str, Any]) -> dict[str, Any]:
    if "repetition_penalty" in fields:
        fields["repeat_penalty"] = fields.pop("repetition_penalty")
    return fields


def _parse_props(fetched: FetchResponse) -> Props:
    try:
        return _decode_props(fetched.body) if fetched.status == 200 else Props()
    except DECODE_ERRORS:
        return Props()


def _parse_ollama_entries(fetched: FetchResponse) -> list[OllamaEntry]:
    try:
        return _decode_ollama_listing(fetched.body).models or []
    except DECODE_ERRORS:
        return []


def _build_models(entries: list[Entry], ollama_entries: list[OllamaEntry], props: Props) -> tuple[Model, ...]:
    listed = {model.name: model.capabilities or () for model in ollama_entries}
    # The properties of a server with several models do not say which of the models they describe.
    shared = _find_capabilities(props) if len(entries) == 1 else frozenset()
    return tuple(_build_model(entry, shared.union(listed.get(entry.id, ())), props) for entry in entries)


def _find_capabilities(props: Props) -> frozenset[str]:
    """Return the input modalities, and what the chat template has a placeholder for."""
    template = props.chat_template or ""
    capabilities = {name for name in ("vision", "audio") if (props.modalities or {}).get(name)}
    if "tools" in template:
        capabilities.add("tools")
    if any(word in template for word in ("enable_thinking", "<think>", "reasoning_effort")):
        capabilities.add("thinking")
    return frozenset(capabilities)


def _build_model(entry: Entry, capabilities: frozenset[str], props: Props) -> Model:
    meta = entry.meta or Meta()
    return Model(
        entry.id,
        size=meta.size or 0,
        parameters=_format_parameters(meta.n_params or 0),
        quantization=_format_quantization(meta.ftype or ""),
        format="gguf",
        context_length=meta.n_ctx or meta.n_ctx_train or 0,
        embedding_length=meta.n_embd or 0,
        capabilities=frozenset(_CAPABILITY_NAMES.get(name, name) for name in capabilities),
        is_loaded=entry.status is None or entry.status.value == "loaded",
        aliases=tuple(alias for alias in entry.aliases or () if alias != entry.id),
        template=props.chat_template or "",
    )


def _format_quantization(ftype: str) -> str:
    """Return the usual short form: `Q4_K_M` of `Q4_K - Medium`."""
    name, _, size = ftype.removeprefix("all ").partition(" - ")
    return f"{name}_{size[0]}" if size else name


def _format_parameters(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count) if count else ""


ENGINE = LlamaCpp()
