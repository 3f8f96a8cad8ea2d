"""Says to Ollama what a caller asked in other words; what it cannot do is refused by name, never dropped."""

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
    ToolChoice,
)
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model

Fields = dict[str, Any]

_TITLE = "Ollama"
_SAMPLING = {
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
        # Older servers knew these, newer ones pass over them.
        *("mirostat", "mirostat_tau", "mirostat_eta", "tfs_z", "numa", "low_vram", "f16_kv", "use_mlock"),
        *("penalize_newline", "vocab_only", "logits_all"),
    }
)
_CHAT_EXTRA = frozenset({"truncate", "shift", "keep_alive"})
_GENERATE_EXTRA = _CHAT_EXTRA | {"template", "system", "context", "raw", "think"}
# Bookkeeping of other APIs: without it the answer is the same.
_HARMLESS = frozenset(
    {
        *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("prediction", "user", "stream_options", "cache_control", "cache_prompt", "inference_geo", "speed"),
    }
)
_NOTHING = frozenset({b"null", b"false", b"{}", b"[]", b'""'})


def chat_fields(chat: Chat, model: Model) -> Fields:
    """The body of /api/chat but for the model and the stream."""
    called: dict[str, str] = {}
    fields: Fields = {"messages": [_message(message, called) for message in chat.messages]}
    choice = chat.tool_choice or ToolChoice("auto")
    if choice.mode not in ("auto", "none"):
        raise _unsupported("tool_choice", f"`{choice.mode}`: the model itself decides whether to call a tool")
    if chat.tools and choice.mode != "none":
        if chat.parallel_tool_calls is False:
            raise _unsupported("parallel_tool_calls", "false: it cannot hold a model to one call")
        fields["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": Raw(tool.parameters or b'{"type":"object","properties":{}}'),
                },
            }
            for tool in chat.tools
        ]
    if chat.thinking is not None:
        fields |= _think(chat.thinking, model)
    _common(fields, chat, _CHAT_EXTRA)
    return fields


def completion_fields(completion: Completion) -> Fields:
    """The body of /api/generate but for the model and the stream: raw, unless there is a suffix to fill towards.

    The template is what puts prompt and suffix in their places, and Ollama leaves it out for raw prompts.
    """
    if len(completion.prompts) > 1:
        raise _unsupported("prompt", "with several texts: send one request for each")
    if completion.echo:
        raise _unsupported("echo")
    prompt = completion.prompts[0] if completion.prompts else ""
    if not isinstance(prompt, str):
        raise _unsupported("prompt", "as token ids: send text")
    fields: Fields = {"prompt": prompt}
    if completion.suffix:
        fields["suffix"] = completion.suffix
    else:
        fields["raw"] = True
    if completion.images:
        fields["images"] = [_image(image) for image in completion.images]
    _common(fields, completion, _GENERATE_EXTRA)
    return fields


def embedding_fields(embedding: Embedding) -> Fields:
    """The body of /api/embed but for the model."""
    if not all(isinstance(text, str) for text in embedding.inputs):
        raise _unsupported("input", "as token ids: send text")
    fields: Fields = {"input": embedding.inputs}
    if embedding.dimensions is not None:
        fields["dimensions"] = embedding.dimensions
    if embedding.truncate is not None:
        fields["truncate"] = embedding.truncate
    if embedding.keep_alive:
        fields["keep_alive"] = Raw(embedding.keep_alive)
    if options := _options(embedding.options):
        fields["options"] = options
    return fields


def _common(fields: Fields, content: Chat | Completion, known_extra: frozenset[str]) -> None:
    sampling = content.sampling
    if (sampling.n or 1) > 1:
        raise _unsupported("n", "above 1: send as many requests")
    if content.format is not None:
        fields["format"] = Raw(content.format.schema) if content.format.schema else "json"
    if sampling.logprobs:
        fields["logprobs"] = True
    if sampling.top_logprobs is not None:
        fields["top_logprobs"] = sampling.top_logprobs
    _carry(fields, content, known_extra)


def _carry(fields: Fields, content: Chat | Completion, known_extra: frozenset[str]) -> None:
    if content.keep_alive:
        fields["keep_alive"] = Raw(content.keep_alive)
    options = _sampled(content.sampling) | _options(content.options)
    for name, value in content.extra:
        if name in _OPTIONS:
            options[name] = Raw(value)
        elif name in known_extra:
            fields[name] = Raw(value)
        elif name not in _HARMLESS and value.strip() not in _NOTHING:
            raise _unsupported(name)
    if options:
        fields["options"] = options


def _sampled(sampling: Sampling) -> Fields:
    options: Fields = {
        name: value for field, name in _SAMPLING.items() if (value := getattr(sampling, field)) is not None
    }
    if sampling.stop:
        options["stop"] = sampling.stop
    return options


def _options(options: Iterable[tuple[str, Json]]) -> Fields:
    taken: Fields = {}
    for name, value in options:
        if name not in _OPTIONS and value.strip() not in _NOTHING:
            raise _unsupported(name)
        if name in _OPTIONS:
            taken[name] = Raw(value)
    return taken


def _think(thinking: Thinking, model: Model) -> Fields:
    if not thinking.enabled:
        return {"think": False}
    if thinking.effort:
        return {"think": _EFFORTS.get(thinking.effort, True)}
    if thinking.budget is not None and model.capabilities and "thinking" not in model.capabilities:
        # A budget allows thinking and asks for none: Ollama's own Messages API passes over it too.
        return {}
    return {"think": True}


def _message(message: Message, called: dict[str, str]) -> Fields:
    """One message. `called` remembers the names of calls by their ids, for the results that come after."""
    role = "system" if message.role == "developer" else message.role
    sent: Fields = {"role": role, "content": message.text or message.refusal}
    if message.thinking:
        sent["thinking"] = message.thinking
    images = [_image(part) for part in message.parts if not isinstance(part, Text)]
    if images:
        sent["images"] = images
    if message.tool_calls:
        sent["tool_calls"] = [
            {"id": call.id, "function": {"index": index, "name": call.name, "arguments": _arguments(call.arguments)}}
            for index, call in enumerate(message.tool_calls)
        ]
        called.update((call.id, call.name) for call in message.tool_calls)
    if role == "tool":
        if name := message.name or called.get(message.tool_call_id, ""):
            sent["tool_name"] = name
        if message.tool_call_id:
            sent["tool_call_id"] = message.tool_call_id
    return sent


def _arguments(arguments: str) -> Any:
    """As an object. What an engine wrote badly earlier in the conversation is told as it was, in one."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = arguments
    if isinstance(value, dict):
        return Raw(arguments.encode() or b"{}")
    return {} if value is None else {"arguments": value}


def _image(part: Part) -> str:
    if isinstance(part, Image):
        if part.data:
            return part.data
        raise _unsupported("image_url", "by address: send the image itself as base64")
    kind = "files" if isinstance(part, File) else "audio"
    raise _unsupported(kind, "in messages: send text and images")


def _unsupported(field: str, why: str = "") -> Unsupported:
    return Unsupported(f"{_TITLE} cannot do `{field}`{' ' if why else ''}{why}.", param=field)
