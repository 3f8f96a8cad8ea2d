"""vLLM's OpenAI-compatible server."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from penstock.domain.content import Chat, Completion, Content, Embedding, Thinking
from penstock.domain.errors import UpstreamError
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse
from penstock.engines.continuation import begun
from penstock.engines.openai_compatible.base import EFFORTS, OpenAIWire
from penstock.engines.openai_compatible.inventory import LISTING, ModelObject, aliases, read_listing

_OPEN = (("continue_final_message", b"true"), ("add_generation_prompt", b"false"))
_COUNTED = ("model", "messages", "tools", "chat_template_kwargs")


class _Version(msgspec.Struct):
    version: str


_version = msgspec.json.Decoder(_Version)


class Vllm(OpenAIWire):
    """vLLM refuses connections until it is ready; `/health` is 200 and empty while its engine lives, else 503.

    A budget for thinking is a hint that is not sent: servers without a reasoning parser refuse it.
    """

    kind: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=8000, slots=16, local_probe="always", url_variables=("VLLM_URL", "LLM_VLLM_URL")
    )
    operations: ClassVar[frozenset[Operation]] = OpenAIWire.operations | {Operation.COUNT}
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            *(
                "logit_bias",
                "length_penalty",
                "stop_token_ids",
                "include_stop_str_in_output",
                "ignore_eos",
                "min_tokens",
            ),
            *("skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs"),
            *("allowed_token_ids", "bad_words", "chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
            *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "priority"),
            *("add_generation_prompt", "continue_final_message", "documents", "best_of"),
        }
    )
    hints: ClassVar[frozenset[str]] = frozenset({"verbosity"})

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Its completions end after 16 tokens where no limit is said; in other dialects that means: no limit.

        So the limit is what the context has left, if every byte of the prompt were a token.
        """
        if isinstance(content, Completion) and content.sampling.max_tokens is None and model.context_length:
            left = model.context_length - max(map(_size, content.prompts), default=0) - 1
            content = replace(content, sampling=replace(content.sampling, max_tokens=max(left, 16)))
        return super().translate_request(call, content, model)

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """A last turn that is left open."""
        if not isinstance(content, Chat):
            return super().build_continuation(call, content, model, said)
        return self.translate_request(call, replace(begun(content, said), extra=content.extra + _OPEN), model)

    def thinking(self, thinking: Thinking) -> dict[str, Any]:
        """By the chat template, and by effort for models that have degrees of it."""
        fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": thinking.enabled}}
        if thinking.enabled and thinking.effort:
            fields["reasoning_effort"] = EFFORTS.get(thinking.effort, thinking.effort)
        return fields

    def embedding(self, embedding: Embedding) -> dict[str, Any]:
        """What is too long is cut where that was asked for."""
        fields = super().embedding(embedding)
        return fields | {"truncate_prompt_tokens": -1} if embedding.truncate else fields

    def count(self, fields: dict[str, Any]) -> EngineRequest:
        """`/tokenize` applies the chat template and counts."""
        return EngineRequest(
            "/tokenize", msgspec.json.encode({name: fields[name] for name in _COUNTED if name in fields})
        )

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Health, models with their context and the path or repository they came from, version."""
        health = yield FetchRequest("/health", optional=True)
        if health.status >= 500:
            raise UpstreamError(f"vLLM's engine has died (status {health.status} at /health): restart vLLM.")
        listing = read_listing((yield FetchRequest("/v1/models")), LISTING, self.title, "/v1/models")
        version = yield FetchRequest("/version", optional=True)
        return Inventory(tuple(_model(entry) for entry in listing.data), State.UP, version=_read_version(version))


def _size(prompt: str | tuple[int, ...]) -> int:
    """As many tokens as a prompt can have at most."""
    return len(prompt.encode("utf-8", "replace") if isinstance(prompt, str) else prompt)


def _read_version(fetched: FetchResponse) -> str:
    try:
        return _version.decode(fetched.body).version if fetched.status == 200 else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _model(entry: ModelObject) -> Model:
    root = entry.root if entry.parent is None else None  # an adapter's root is its own folder
    return Model(entry.id, context_length=entry.max_model_len or 0, loaded=True, aliases=aliases(entry.id, root))


ENGINE = Vllm()
