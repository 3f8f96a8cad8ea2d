"""Requests in OpenAI's format built from content."""

from typing import Any

from msgspec import Raw

from penstock.domain.content import (
    Audio,
    Chat,
    Completion,
    Embedding,
    File,
    Format,
    Image,
    Message,
    Part,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import Unsupported
from penstock.engines.openai_compatible.tool_arguments import NO_ARGUMENTS
from penstock.engines.system_messages import merge_system_messages

Fields = dict[str, Any]


def build_chat(chat: Chat, title: str, *, accepts_thinking: bool, accepts_files: bool) -> Fields:
    """Build a chat's body without `model`, `stream` and thinking, which differs between servers."""
    if not accepts_files and any(isinstance(part, File) for message in chat.messages for part in message.parts):
        raise Unsupported(f"{title} does not accept documents. Send their text.", param="messages")
    messages = merge_system_messages(chat.messages, keeps_later=False)
    fields: Fields = {"messages": [build_message(message, title, accepts_thinking) for message in messages]}
    fields |= build_sampling(chat.sampling)
    if chat.sampling.logprobs:
        fields["logprobs"] = True
    if chat.sampling.top_logprobs is not None:
        fields["top_logprobs"] = chat.sampling.top_logprobs
    if chat.tools:
        fields["tools"] = [_build_tool(tool) for tool in chat.tools]
    if chat.tool_choice is not None:
        fields["tool_choice"] = _build_tool_choice(chat.tool_choice)
    if chat.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.format is not None:
        fields["response_format"] = build_response_format(chat.format)
    if chat.user:
        fields["user"] = chat.user
    return fields


def build_sampling(sampling: Sampling) -> Fields:
    """Build the sampling fields, which chats and completions share; unset ones are left out."""
    fields: Fields = {
        name: value
        for name in (
            *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty"),
            *("frequency_penalty", "n"),
        )
        if (value := getattr(sampling, name)) is not None
    }
    if sampling.stop:
        fields["stop"] = sampling.stop
    if sampling.repeat_penalty is not None:
        fields["repetition_penalty"] = sampling.repeat_penalty
    return fields


def build_completion(completion: Completion, title: str) -> Fields:
    """Build a completion's body without `model` and `stream`."""
    if completion.images:
        raise Unsupported(
            f"{title} accepts images in chats only. Send a chat instead of a raw completion.", param="images"
        )
    prompts = completion.prompts or ("",)
    fields: Fields = {"prompt": prompts[0] if len(prompts) == 1 else prompts}
    fields |= build_sampling(completion.sampling)
    if completion.sampling.logprobs or completion.sampling.top_logprobs is not None:
        fields["logprobs"] = completion.sampling.top_logprobs or 0
    if completion.suffix:
        fields["suffix"] = completion.suffix
    if completion.echo:
        fields["echo"] = True
    if completion.format is not None:
        fields["response_format"] = build_response_format(completion.format)
    return fields


def build_embedding(embedding: Embedding) -> Fields:
    """Build an embedding's body without `model`."""
    inputs = embedding.inputs
    fields: Fields = {"input": inputs[0] if len(inputs) == 1 else inputs}
    if embedding.dimensions is not None:
        fields["dimensions"] = embedding.dimensions
    fields["encoding_format"] = "base64" if embedding.base64 else "float"
    return fields


def build_message(message: Message, title: str, accepts_thinking: bool) -> Fields:
    """Build one message. Texts become one string, which every server accepts: some reject a list of parts."""
    fields: Fields = {"role": message.role, "content": _build_content(message.parts, title)}
    if message.role == "assistant":
        if not message.parts and (message.tool_calls or message.refusal):
            fields["content"] = None
        if message.tool_calls:
            fields["tool_calls"] = [_build_tool_call(call) for call in message.tool_calls]
        if message.thinking and accepts_thinking:
            fields["reasoning_content"] = message.thinking
        if message.refusal:
            fields["refusal"] = message.refusal
    if message.name:
        fields["name"] = message.name
    if message.role == "tool":
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _build_content(parts: tuple[Part, ...], title: str) -> str | list[Fields]:
    if not parts:
        return ""
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return [_build_part(part, title) for part in parts]


def _build_part(part: Part, title: str) -> Fields:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            image = {"url": url, "detail": part.detail} if part.detail else {"url": url}
            return {"type": "image_url", "image_url": image}
        case Audio(data, format_):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format_}}
        case File():
            return {"type": "file", "file": _build_file(part, title)}


def _build_file(file: File, title: str) -> Fields:
    if file.url:
        raise Unsupported(f"{title} cannot fetch documents by address. Send the document itself.", param="messages")
    filename = {"filename": file.name} if file.name else {}
    if file.id:
        return {"file_id": file.id, **filename}
    data = f"data:{file.media_type};base64,{file.data}" if file.media_type else file.data
    return {"file_data": data, **filename}


def _build_tool_call(call: ToolCall) -> Fields:
    arguments = call.arguments if call.arguments.strip() else NO_ARGUMENTS
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _build_tool(tool: Tool) -> Fields:
    function: Fields = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = Raw(tool.parameters)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _build_tool_choice(choice: ToolChoice) -> str | Fields:
    if choice.mode == "function":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def build_response_format(format_: Format) -> Fields:
    """Build `response_format`: any JSON, or JSON that fits a schema."""
    if not format_.schema:
        return {"type": "json_object"}
    schema: Fields = {"name": format_.name or "answer", "schema": Raw(format_.schema)}
    if format_.description:
        schema["description"] = format_.description
    if format_.strict is not None:
        schema["strict"] = format_.strict
    return {"type": "json_schema", "json_schema": schema}
