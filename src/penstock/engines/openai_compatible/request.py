"""Says in OpenAI's words what a caller asked in other words."""

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

Fields = dict[str, Any]


def chat_fields(chat: Chat, title: str, *, keeps_thinking: bool, takes_files: bool) -> Fields:
    """A chat's body but for the model, the stream and the thinking, of which servers differ in what they know."""
    if not takes_files and any(isinstance(part, File) for message in chat.messages for part in message.parts):
        raise Unsupported(f"{title} cannot read documents: send their text.", param="messages")
    fields: Fields = {"messages": [message_object(message, title, keeps_thinking) for message in chat.messages]}
    fields |= sampling_fields(chat.sampling)
    if chat.sampling.logprobs:
        fields["logprobs"] = True
    if chat.sampling.top_logprobs is not None:
        fields["top_logprobs"] = chat.sampling.top_logprobs
    if chat.tools:
        fields["tools"] = [_tool_object(tool) for tool in chat.tools]
    if chat.tool_choice is not None:
        fields["tool_choice"] = _tool_choice_object(chat.tool_choice)
    if chat.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.format is not None:
        fields["response_format"] = format_object(chat.format)
    if chat.user:
        fields["user"] = chat.user
    return fields


def sampling_fields(sampling: Sampling) -> Fields:
    """What chat and completions say alike; what was not asked for is left out."""
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


def completion_fields(completion: Completion, title: str) -> Fields:
    """A completion's body but for the model and the stream."""
    if completion.images:
        raise Unsupported(f"{title} takes images in chats only, not in raw completions.", param="images")
    prompts = completion.prompts or ("",)
    fields: Fields = {"prompt": prompts[0] if len(prompts) == 1 else prompts}
    fields |= sampling_fields(completion.sampling)
    if completion.sampling.logprobs or completion.sampling.top_logprobs is not None:
        fields["logprobs"] = completion.sampling.top_logprobs or 0
    if completion.suffix:
        fields["suffix"] = completion.suffix
    if completion.echo:
        fields["echo"] = True
    if completion.format is not None:
        fields["response_format"] = format_object(completion.format)
    return fields


def embedding_fields(embedding: Embedding) -> Fields:
    """An embedding's body but for the model."""
    inputs = embedding.inputs
    fields: Fields = {"input": inputs[0] if len(inputs) == 1 else inputs}
    if embedding.dimensions is not None:
        fields["dimensions"] = embedding.dimensions
    fields["encoding_format"] = "base64" if embedding.base64 else "float"
    return fields


def message_object(message: Message, title: str, keeps_thinking: bool) -> Fields:
    """One message; text alone stays a plain string, which every server takes."""
    sent: Fields = {"role": message.role, "content": _content(message.parts, title)}
    if message.role == "assistant":
        if not message.parts and (message.tool_calls or message.refusal):
            sent["content"] = None
        if message.tool_calls:
            sent["tool_calls"] = [_tool_call_object(call) for call in message.tool_calls]
        if message.thinking and keeps_thinking:
            sent["reasoning_content"] = message.thinking
        if message.refusal:
            sent["refusal"] = message.refusal
    if message.name:
        sent["name"] = message.name
    if message.role == "tool":
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _content(parts: tuple[Part, ...], title: str) -> str | list[Fields]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_part_object(part, title) for part in parts]


def _part_object(part: Part, title: str) -> Fields:
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
            return {"type": "file", "file": _file_object(part, title)}


def _file_object(file: File, title: str) -> Fields:
    if file.url:
        raise Unsupported(f"{title} cannot fetch documents by address: send the document itself.", param="messages")
    named = {"filename": file.name} if file.name else {}
    if file.id:
        return {"file_id": file.id, **named}
    data = f"data:{file.media_type};base64,{file.data}" if file.media_type else file.data
    return {"file_data": data, **named}


def _tool_call_object(call: ToolCall) -> Fields:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool_object(tool: Tool) -> Fields:
    function: Fields = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = Raw(tool.parameters)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice_object(choice: ToolChoice) -> str | Fields:
    if choice.mode == "function":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def format_object(asked: Format) -> Fields:
    """`response_format`: any JSON, or JSON that fits a schema."""
    if not asked.schema:
        return {"type": "json_object"}
    schema: Fields = {"name": asked.name or "answer", "schema": Raw(asked.schema)}
    if asked.description:
        schema["description"] = asked.description
    if asked.strict is not None:
        schema["strict"] = asked.strict
    return {"type": "json_schema", "json_schema": schema}
