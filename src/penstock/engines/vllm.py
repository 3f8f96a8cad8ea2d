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
from penstock.engines.continuation import append_assistant_text
from penstock.engines.json_fields import DECODE_ERRORS
from penstock.engines.openai_compatible.base import EFFORTS, OpenAICompatible
from penstock.engines.openai_compatible.inventory import ModelObject, find_aliases, parse_model_objects

_LEAVE_LAST_MESSAGE_OPEN = (("continue_final_message", b"true"), ("add_generation_prompt", b"false"))
_TOKENIZE_FIELDS = ("model", "messages", "tools", "chat_template_kwargs")


class _Version(msgspec.Struct):
    version: str


_decode_version = msgspec.json.Decoder(_Version).decode


class Vllm(OpenAICompatible):
    """vLLM server. It refuses connections until it is ready; `/health` answers 200, or 503 once its engine has stopped.

    A thinking budget is not sent, because servers without a reasoning parser reject it.
    """

    kind: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=8000, slots=16, local_probe="always", url_variables=("VLLM_URL", "LLM_VLLM_URL")
    )
    operations: ClassVar[frozenset[Operation]] = OpenAICompatible.operations | {Operation.COUNT}
    extra_fields: ClassVar[frozenset[str]] = frozenset(
        {
            *("logit_bias", "length_penalty", "stop_token_ids", "include_stop_str_in_output", "ignore_eos"),
            *("min_tokens",),
            *("skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs"),
            *("allowed_token_ids", "bad_words", "chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
            *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "priority"),
            *("add_generation_prompt", "continue_final_message", "documents", "best_of"),
        }
    )

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build the request, with an explicit token limit for completions.

        Without a limit vLLM ends a completion after 16 tokens, while other dialects mean no limit. The limit sent is
        the rest of the context, counting each byte of the prompt as a token.
        """
        if isinstance(content, Completion) and content.sampling.max_tokens is None and model.context_length:
            free_tokens = model.context_length - max(map(_max_tokens, content.prompts), default=0) - 1
            content = replace(content, sampling=replace(content.sampling, max_tokens=max(free_tokens, 16)))
        return super().translate_request(call, content, model)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Send the text so far as an assistant message that is left open."""
        if not isinstance(content, Chat):
            return super().build_continuation(call, content, model, sent_text)
        chat = replace(append_assistant_text(content, sent_text), extra=content.extra + _LEAVE_LAST_MESSAGE_OPEN)
        return self.translate_request(call, chat, model)

    def translate_thinking(self, thinking: Thinking) -> dict[str, Any]:
        """Set the chat template's switch, and the effort for models that have levels of it."""
        fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": thinking.enabled}}
        if thinking.enabled and thinking.effort:
            fields["reasoning_effort"] = EFFORTS.get(thinking.effort, thinking.effort)
        return fields

    def translate_embedding(self, embedding: Embedding) -> dict[str, Any]:
        """Ask vLLM to truncate long inputs where the caller did."""
        fields = super().translate_embedding(embedding)
        return fields | {"truncate_prompt_tokens": -1} if embedding.truncate else fields

    def build_count_request(self, fields: dict[str, Any]) -> EngineRequest:
        """Use `/tokenize`, which applies the chat template."""
        body = msgspec.json.encode({name: fields[name] for name in _TOKENIZE_FIELDS if name in fields})
        return EngineRequest("/tokenize", body)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read its health, its models with their context and path or repository, and its version."""
        health = yield FetchRequest("/health", optional=True)
        if health.status >= 500:
            raise UpstreamError(f"vLLM's engine has stopped (status {health.status} at /health). Restart vLLM.")
        entries = parse_model_objects((yield FetchRequest("/v1/models")), self.title)
        version = yield FetchRequest("/version", optional=True)
        return Inventory(tuple(map(_build_model, entries)), State.UP, version=_parse_version(version))


def _max_tokens(prompt: str | tuple[int, ...]) -> int:
    """Return an upper bound of the prompt's number of tokens: a token has at least one byte."""
    return len(prompt.encode("utf-8", "replace") if isinstance(prompt, str) else prompt)


def _parse_version(fetched: FetchResponse) -> str:
    try:
        return _decode_version(fetched.body).version if fetched.status == 200 else ""
    except DECODE_ERRORS:
        return ""


def _build_model(entry: ModelObject) -> Model:
    root = entry.root if entry.parent is None else None  # the root of a LoRA adapter is the adapter's own folder
    return Model(
        entry.id, context_length=max(0, entry.max_model_len or 0), is_loaded=True, aliases=find_aliases(entry.id, root)
    )


ENGINE = Vllm()
