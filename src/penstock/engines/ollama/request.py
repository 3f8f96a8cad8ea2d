"""Requests to Ollama built from content. What it cannot do is refused or left out by name, never in silence."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from penstock.domain.content import (
    Chat,
    Completion,
    Embedding,
    File,
    Image,
    Json,
    Message,
    Part,
    Sampling,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model
from penstock.engines.ollama.tool_choice import constrain_tool_choice, select_tools
from penstock.engines.omitted_fields import OmittedFields
from penstock.engines.system_messages import merge_system_messages
from penstock.engines.thinking import can_think, omit_thinking

Fields = dict[str, Any]

_TITLE = "Ollama"
_SAMPLING_OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_OPTIONS = frozenset(
    {
        *("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict", "num_keep"),
        *("typical_p", "repeat_last_n", "num_predict"),
        # Used by older versions, ignored by newer ones.
        *("mirostat", "mirostat_tau", "mirostat_eta", "tfs_z", "numa", "low_vram", "f16_kv", "use_mlock"),
        *("penalize_newline", "vocab_only", "logits_all"),
    }
)
_CHAT_FIELDS = frozenset({"truncate", "shift", "keep_alive"})
_GENERATE_FIELDS = _CHAT_FIELDS | {"template", "system", "context", "raw", "think"}


def build_chat(chat: Chat, model: Model, omitted: OmittedFields) -> Fields:
    """Build the body of /api/chat without `model` and `stream`; add what it leaves out to `omitted`."""
    call_names: dict[str, str] = {}
    messages = merge_system_messages(chat.messages, keeps_later=True)
    fields: Fields = {"messages": [_build_message(message, call_names) for message in messages]}
    if tools := select_tools(chat):
        fields["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": Raw(tool.parameters or b'{"type":"object","properties":{}}'),
                },
            }
            for tool in tools
        ]
    if chat.thinking is not None:
        fields |= _build_thinking(chat.thinking, model, omitted)
    if chat.user:
        omitted.add_name("user")
    _add_common_fields(fields, chat, _CHAT_FIELDS, omitted)
    if (schema := constrain_tool_choice(chat)) is not None:
        fields["format"] = schema
    return fields


def build_completion(completion: Completion, omitted: OmittedFields) -> Fields:
    """Build the body of /api/generate without `model` and `stream`; add what it leaves out to `omitted`.

    The prompt is raw unless there is a suffix: the model's template combines the two, and raw prompts skip it.
    """
    if len(completion.prompts) > 1:
        raise _unsupported_field("prompt", " with several texts", "Send one request for each.")
    if completion.echo:
        raise _unsupported_field("echo")
    prompt = completion.prompts[0] if completion.prompts else ""
    if not isinstance(prompt, str):
        raise _unsupported_field("prompt", " as token ids", "Send text.")
    fields: Fields = {"prompt": prompt}
    if completion.suffix:
        fields["suffix"] = completion.suffix
    else:
        fields["raw"] = True
    if completion.images:
        fields["images"] = [_image_data(image) for image in completion.images]
    _add_common_fields(fields, completion, _GENERATE_FIELDS, omitted)
    return fields


def build_embedding(embedding: Embedding, omitted: OmittedFields) -> Fields:
    """Build the body of /api/embed without `model`; add what it leaves out to `omitted`."""
    if not all(isinstance(text, str) for text in embedding.inputs):
        raise _unsupported_field("input", " as token ids", "Send text.")
    fields: Fields = {"input": embedding.inputs}
    if embedding.dimensions is not None:
        fields["dimensions"] = embedding.dimensions
    if embedding.truncate is not None:
        fields["truncate"] = embedding.truncate
    if embedding.keep_alive:
        fields["keep_alive"] = Raw(embedding.keep_alive)
    if options := _copy_options(embedding.options, omitted):
        fields["options"] = options
    return fields


def _add_common_fields(
    fields: Fields, content: Chat | Completion, extra_fields: frozenset[str], omitted: OmittedFields
) -> None:
    sampling = content.sampling
    if (sampling.n or 1) > 1:
        raise _unsupported_field("n", " above 1", "Send one request for each response.")
    if content.format is not None:
        fields["format"] = Raw(content.format.schema) if content.format.schema else "json"
    if sampling.logprobs:
        fields["logprobs"] = True
    if sampling.top_logprobs is not None:
        fields["top_logprobs"] = sampling.top_logprobs
    _add_options(fields, content, extra_fields, omitted)


def _add_options(
    fields: Fields, content: Chat | Completion, extra_fields: frozenset[str], omitted: OmittedFields
) -> None:
    if content.keep_alive:
        fields["keep_alive"] = Raw(content.keep_alive)
    options = _build_sampling(content.sampling) | _copy_options(content.options, omitted)
    for name, value in content.extra:
        if name in _OPTIONS:
            options[name] = Raw(value)
        elif name in extra_fields:
            fields[name] = Raw(value)
        else:
            omitted.add_field(name, value)
    if options:
        fields["options"] = options


def _build_sampling(sampling: Sampling) -> Fields:
    options: Fields = {
        name: value for field, name in _SAMPLING_OPTIONS.items() if (value := getattr(sampling, field)) is not None
    }
    if sampling.stop:
        options["stop"] = sampling.stop
    return options


def _copy_options(options: Iterable[tuple[str, Json]], omitted: OmittedFields) -> Fields:
    copied: Fields = {}
    for name, value in options:
        if name in _OPTIONS:
            copied[name] = Raw(value)
        else:
            omitted.add_field(name, value)
    return copied


def _build_thinking(thinking: Thinking, model: Model, omitted: OmittedFields) -> Fields:
    """Build `think`. Ollama refuses it for models whose capabilities do not include thinking."""
    if not thinking.enabled:
        return {"think": False}
    has_thinking = "thinking" in model.capabilities if model.capabilities else can_think(model)
    if not has_thinking and not thinking.is_required:
        omit_thinking(thinking, model, omitted)
        return {}
    return {"think": _EFFORTS.get(thinking.effort, True) if thinking.effort else True}


def _build_message(message: Message, call_names: dict[str, str]) -> Fields:
    """Build one message. `call_names` collects the names of tool calls by id, for the results that follow them."""
    role = message.role
    fields: Fields = {"role": role, "content": message.text or message.refusal}
    if message.thinking:
        fields["thinking"] = message.thinking
    images = [_image_data(part) for part in message.parts if not isinstance(part, Text)]
    if images:
        fields["images"] = images
    if message.tool_calls:
        fields["tool_calls"] = [_build_tool_call(index, call) for index, call in enumerate(message.tool_calls)]
        call_names.update((call.id, call.name) for call in message.tool_calls)
    if role == "tool":
        if name := message.name or call_names.get(message.tool_call_id, ""):
            fields["tool_name"] = name
        if message.tool_call_id:
            fields["tool_call_id"] = message.tool_call_id
    return fields


def _build_tool_call(index: int, call: ToolCall) -> Fields:
    function = {"index": index, "name": call.name, "arguments": _encode_arguments(call.arguments)}
    return {"id": call.id, "function": function}


def _encode_arguments(arguments: str) -> Any:
    """Encode a call's arguments as an object, which wraps text that is not one (a model may have written it)."""
    try:
        value = msgspec.json.decode(arguments.strip() or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = arguments
    if isinstance(value, dict):
        return Raw(arguments.strip().encode() or b"{}")
    return {} if value is None else {"arguments": value}


def _image_data(part: Part) -> str:
    if isinstance(part, Image):
        if part.data:
            return part.data
        raise _unsupported_field("image_url", " by address", "Send the image itself as base64.")
    kind = "files" if isinstance(part, File) else "audio"
    raise _unsupported_field(kind, " in messages", "Send text and images.")


def _unsupported_field(field: str, value: str = "", advice: str = "Leave it out.") -> Unsupported:
    return Unsupported(f"{_TITLE} does not support `{field}`{value}. {advice}", param=field)
