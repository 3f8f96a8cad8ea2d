"""Requests to the MLX API server. What it cannot do is refused or left out by name, never in silence."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.domain.content import AgentTask, Chat, Completion, Content, Message, Sampling, Text
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines.base import EngineRequest
from penstock.engines.omitted_fields import OmittedFields
from penstock.engines.thinking import omit_thinking

_SAMPLING = frozenset({"max_tokens", "temperature"})
_ROLES = {"developer": "system", "tool": "user"}
_SPEAKERS = {"user": "User", "assistant": "Assistant"}

_encode = msgspec.json.encode


def build_request(call: Call, content: Content, model: Model, title: str) -> EngineRequest:
    """Build the request for a chat, an agent task or a completion. Raises Unsupported for anything else."""
    if call.operation is Operation.COUNT:
        raise Unsupported(f"The {title} cannot count tokens. Use another server.")
    if isinstance(content, AgentTask):
        return _build_chat(call, _chat_from_task(content), model, title)
    if isinstance(content, Chat):
        return _build_chat(call, content, model, title)
    if isinstance(content, Completion):
        return _build_completion(call, content, model, title)
    raise Unsupported(f"The {title} cannot create embeddings. Use another server for them.")


def _build_chat(call: Call, chat: Chat, model: Model, title: str) -> EngineRequest:
    """Build a chat request, whose fallback for older versions is the conversation as one prompt."""
    features = {
        "tools": chat.tools and (chat.tool_choice is None or chat.tool_choice.mode != "none"),
        "response_format": chat.format,
    }
    _refuse_unsupported(features, title)
    omitted = _omit_fields(chat, title)
    if chat.user:
        omitted.add_name("user")
    if chat.thinking is not None:
        omit_thinking(chat.thinking, model, omitted)
    turns = [(message.role, _message_text(message, title)) for message in chat.messages]
    messages = [{"role": _ROLES.get(role, role), "content": text} for role, text in turns]
    common = _common_fields(call, model, chat.sampling)
    prompt = _encode({"prompt": _format_prompt(turns)} | common)
    return EngineRequest(
        "/api/chat",
        _encode({"messages": messages} | common),
        stream=call.stream,
        fallback=EngineRequest("/api/generate", prompt, stream=call.stream),
        ignored=omitted.names,
    )


def _build_completion(call: Call, completion: Completion, model: Model, title: str) -> EngineRequest:
    prompts = completion.prompts
    features = {
        "suffix": completion.suffix,
        "echo": completion.echo,
        "response_format": completion.format,
        "images": completion.images,
        "prompt (several texts)": len(prompts) > 1,
        "prompt (token ids)": any(not isinstance(prompt, str) for prompt in prompts),
    }
    _refuse_unsupported(features, title)
    omitted = _omit_fields(completion, title)
    body = _encode({"prompt": prompts[0] if prompts else ""} | _common_fields(call, model, completion.sampling))
    return EngineRequest("/api/generate", body, stream=call.stream, ignored=omitted.names)


def _refuse_unsupported(features: Mapping[str, object], title: str) -> None:
    """Raise Unsupported for the first requested feature that the server lacks."""
    for field, is_requested in features.items():
        if is_requested:
            raise Unsupported(f"The {title} does not support `{field}`. Leave it out.", param=field.split()[0])


def _omit_fields(content: Chat | Completion, title: str) -> OmittedFields:
    """Collect the settings and fields to leave out. Raises Unsupported for those that must not be left out."""
    omitted = OmittedFields(f"The {title}")
    omitted.add_sampling(content.sampling, _SAMPLING)
    omitted.add_fields(content.options + content.extra)
    omitted.add_field("keep_alive", content.keep_alive or b"null")
    return omitted


def _message_text(message: Message, title: str) -> str:
    """Return a message's text. Tool calls are written into it, so that the model knows of them."""
    if not all(isinstance(part, Text) for part in message.parts):
        raise Unsupported(f"The {title} accepts text only. Send no images, audio or files.", param="messages")
    calls = "".join(f"\n[{call.name}({call.arguments})]" for call in message.tool_calls)
    return (message.text or message.refusal) + calls


def _chat_from_task(task: AgentTask) -> Chat:
    if task.plan:
        raise Unsupported("The MLX API server cannot create plans. Use Victoria.", param="plan")
    expert = (Message("system", (Text(f"Answer as {task.expert}."),)),) if task.expert else ()
    return Chat((*expert, *task.history, Message("user", (Text(task.goal),))), sampling=task.sampling)


def _common_fields(call: Call, model: Model, sampling: Sampling) -> dict[str, Any]:
    fields: dict[str, Any] = {"stream": call.stream}
    if model.name:
        fields["model"] = model.name
    if sampling.max_tokens is not None:
        fields["max_tokens"] = sampling.max_tokens
    if sampling.temperature is not None:
        fields["temperature"] = sampling.temperature
    return fields


def _format_prompt(turns: list[tuple[str, str]]) -> str:
    """Format a conversation as one prompt: each turn after its speaker's name, a single question without one."""
    system = [text for role, text in turns if role in ("system", "developer")]
    spoken = [(role, text) for role, text in turns if role not in ("system", "developer")]
    if len(spoken) == 1:
        return "\n\n".join([*system, spoken[0][1]])
    return "\n\n".join([*system, *(f"{_SPEAKERS.get(role, 'Tool')}: {text}" for role, text in spoken), "Assistant:"])
