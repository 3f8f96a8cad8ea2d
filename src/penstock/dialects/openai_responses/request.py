"""Decoding of Responses API requests: https://platform.openai.com/docs/api-reference/responses/create.

The gateway stores no conversations. References to stored ones are rejected, never ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from penstock.dialects.json_body import collect_unknown_fields, decode_body, field_error, missing_field
from penstock.dialects.openai_responses import schema
from penstock.domain.content import (
    Audio,
    Chat,
    File,
    Format,
    Image,
    Message,
    Part,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import InvalidRequest, Unsupported

_request_decoder = msgspec.json.Decoder(schema.Request)
_kind_decoder = msgspec.json.Decoder(schema.ItemKind)
_message_decoder = msgspec.json.Decoder(schema.Message)
_call_decoder = msgspec.json.Decoder(schema.FunctionCall)
_output_decoder = msgspec.json.Decoder(schema.FunctionCallOutput)
_reasoning_decoder = msgspec.json.Decoder(schema.Reasoning)

# Fields on billing, caching and tools at the provider: other servers can ignore them.
_PROVIDER_FIELDS = frozenset(
    {
        "context_management",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "stream_options",
    }
)
_KNOWN_FIELDS = _PROVIDER_FIELDS | frozenset(schema.Request.__struct_fields__)
_LOGPROBS = "message.output_text.logprobs"
_EFFORTS = {"xhigh": "max"}


def decode_chat(body: bytes) -> Chat:
    """Decode the complete request.

    Raises InvalidRequest that names the field, and Unsupported for features that need OpenAI's own servers.
    """
    request = decode_body(_request_decoder, body)
    _check_stateless(request)
    tools, choice = _select_tools(request, tuple(_parse_tools(request.tools or [])))
    extra = collect_unknown_fields(body, _KNOWN_FIELDS)
    if request.text and request.text.verbosity:
        extra += (("verbosity", msgspec.json.encode(request.text.verbosity)),)
    messages = tuple(_parse_input(request))
    if not messages:
        raise field_error("input", "must have at least one item")
    return Chat(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        format=_parse_format(request.text.format) if request.text and request.text.format else None,
        sampling=_parse_sampling(request),
        thinking=_parse_thinking(request.reasoning),
        user=request.user or request.safety_identifier or "",
        extra=extra,
    )


def _check_stateless(request: schema.Request) -> None:
    stored = {
        "previous_response_id": (request.previous_response_id or "").encode(),
        "conversation": bytes(request.conversation),
        "prompt": bytes(request.prompt),
    }
    for name, value in stored.items():
        if value not in (b"", b"null"):
            raise Unsupported(
                f"`{name}` needs stored data, and nothing is stored here. Send the complete conversation in `input`.",
                param=name,
            )
    if request.background:
        raise Unsupported(
            "`background` needs stored responses, and none are stored here. Wait for the response, or stream it.",
            param="background",
        )


def _parse_sampling(request: schema.Request) -> Sampling:
    logprobs = _LOGPROBS in (request.include or ())
    return Sampling(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repeat_penalty=request.repetition_penalty,
        logprobs=logprobs or bool(request.top_logprobs),
        top_logprobs=request.top_logprobs,
    )


def _parse_thinking(config: schema.ReasoningConfig | None) -> Thinking | None:
    if config is None or config.effort is None:
        return None
    if config.effort == "none":
        return Thinking(enabled=False)
    return Thinking(effort=_EFFORTS.get(config.effort, config.effort))


def _parse_format(config: schema.Format) -> Format | None:
    if config.type == "text":
        return None
    if config.type == "json_object":
        return Format()
    schema_json = bytes(config.schema)
    if not schema_json.startswith(b"{"):
        path = "text.format.schema"
        raise field_error(path, "must be an object") if schema_json else missing_field(path)
    return Format(schema_json, config.name or "", config.strict, config.description or "")


def _parse_tools(tools: list[schema.Tool]) -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        if tool.type != "function":
            raise Unsupported(
                f"`tools.{at}` is OpenAI's own tool {tool.type}. Only function tools can be used here.",
                param=f"tools.{at}.type",
            )
        if not tool.name:
            raise missing_field(f"tools.{at}.name")
        parameters = bytes(tool.parameters) or b"null"
        if parameters != b"null" and not parameters.startswith(b"{"):
            raise field_error(f"tools.{at}.parameters", "must be an object")
        yield Tool(tool.name, tool.description or "", b"" if parameters == b"null" else parameters, tool.strict)


def _select_tools(request: schema.Request, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """Return the tools that the model may call, and the tool choice."""
    choice = request.tool_choice
    if choice == "required" and not tools:
        raise field_error("tool_choice", "is `required`, which needs `tools`")
    if choice is None or isinstance(choice, str):
        return tools, ToolChoice(choice) if choice else None
    names = {tool.name for tool in tools}
    if choice.type == "function":
        if choice.name not in names:
            path = "tool_choice.name"
            raise _unknown_tool(path, choice.name) if choice.name else missing_field(path)
        return tools, ToolChoice("function", choice.name or "")
    if choice.type != "allowed_tools":
        raise Unsupported(
            f"`tool_choice` is OpenAI's own tool {choice.type}. Only function tools can be used here.",
            param="tool_choice.type",
        )
    for at, allowed in enumerate(choice.tools or []):
        if allowed.name not in names:
            raise _unknown_tool(f"tool_choice.tools.{at}.name", allowed.name)
    allowed_names = {allowed.name for allowed in choice.tools or []}
    return tuple(tool for tool in tools if tool.name in allowed_names), ToolChoice(choice.mode or "auto")


def _unknown_tool(path: str, name: str) -> InvalidRequest:
    return field_error(path, f"is {name!r}, which is not in `tools`")


@dataclass(slots=True)
class _AssistantMessage:
    """An assistant message under construction. The input has it as several items."""

    parts: list[Part] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    signature: str = ""
    refusal: str = ""

    @property
    def has_content(self) -> bool:
        return bool(self.parts or self.calls or self.refusal)

    def to_message(self) -> Message:
        return Message(
            "assistant",
            tuple(self.parts),
            tool_calls=tuple(self.calls),
            thinking="".join(self.thinking),
            thinking_signature=self.signature,
            refusal=self.refusal,
        )


def _parse_input(request: schema.Request) -> Iterator[Message]:
    if request.instructions:
        yield Message("system", (Text(request.instructions),))
    if isinstance(request.input, str):
        yield Message("user", (Text(request.input),))
        return
    names: dict[str, str] = {}
    message: _AssistantMessage | None = None
    for at, item in enumerate(request.input):
        path = f"input.{at}"
        kind = decode_body(_kind_decoder, item, path)
        assistant = kind.type in ("reasoning", "function_call") or kind.role == "assistant"
        if message is not None and (not assistant or (kind.type != "function_call" and message.has_content)):
            yield message.to_message()
            message = None
        if assistant:
            message = message or _AssistantMessage()
            _add_item(message, item, kind, path, names)
        else:
            yield _parse_message(item, kind, path, names)
    if message is not None:
        yield message.to_message()


def _add_item(
    message: _AssistantMessage, item: msgspec.Raw, kind: schema.ItemKind, path: str, names: dict[str, str]
) -> None:
    if kind.type == "reasoning":
        reasoning = decode_body(_reasoning_decoder, item, path)
        message.thinking.extend(piece.text for piece in reasoning.content or reasoning.summary or [])
        message.signature = reasoning.encrypted_content or message.signature
    elif kind.type == "function_call":
        call = decode_body(_call_decoder, item, path)
        names[call.call_id] = call.name
        message.calls.append(ToolCall(call.call_id, call.name, call.arguments))
    else:
        content = decode_body(_message_decoder, item, path).content
        refusals = [] if isinstance(content, str) else [part for part in content if part.type == "refusal"]
        message.refusal = "".join(part.refusal or "" for part in refusals)
        parts = content if isinstance(content, str) else [part for part in content if part.type != "refusal"]
        message.parts.extend(_parse_parts(parts, f"{path}.content"))


def _parse_message(item: msgspec.Raw, kind: schema.ItemKind, path: str, names: dict[str, str]) -> Message:
    if kind.type == "message" or (kind.type is None and kind.role is not None):
        message = decode_body(_message_decoder, item, path)
        return Message(message.role, tuple(_parse_parts(message.content, f"{path}.content")))
    if kind.type == "function_call_output":
        output = decode_body(_output_decoder, item, path)
        parts = tuple(_parse_parts(output.output, f"{path}.output"))
        return Message("tool", parts, tool_call_id=output.call_id, name=names.get(output.call_id, ""))
    if kind.type in (None, "item_reference"):
        raise Unsupported(
            f"`{path}` refers to a stored item, and items are not stored here. Send the item itself.", param=path
        )
    raise Unsupported(f"`{path}` has the type {kind.type}: a model cannot get such an item.", param=f"{path}.type")


def _parse_parts(content: str | list[schema.Part], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, part in enumerate(content):
        yield _parse_part(part, f"{path}.{at}")


def _parse_part(part: schema.Part, path: str) -> Part:
    match part.type:
        case "input_text" | "output_text" | "text":
            if part.text is None:
                raise missing_field(f"{path}.text")
            return Text(part.text)
        case "input_image":
            return _parse_image(part, path)
        case "input_file":
            return _parse_file(part, path)
        case "input_audio":
            if part.input_audio is None:
                raise missing_field(f"{path}.input_audio")
            return Audio(part.input_audio.data, part.input_audio.format)
        case unknown:
            raise field_error(f"{path}.type", f"is {unknown!r}, which is not a known type of content")


def _parse_image(part: schema.Part, path: str) -> Image:
    if part.image_url:
        media_type, data = _parse_data_url(part.image_url)
        if data:
            return Image(data=data, media_type=media_type, detail=part.detail or "")
        return Image(url=part.image_url, detail=part.detail or "")
    if part.file_id:
        raise Unsupported(
            f"`{path}.file_id` refers to a stored file, and files are not stored here. Send the image as a data URL.",
            param=f"{path}.file_id",
        )
    raise missing_field(f"{path}.image_url")


def _parse_file(part: schema.Part, path: str) -> File:
    if part.file_data:
        media_type, data = _parse_data_url(part.file_data)
        return File(data=data or part.file_data, media_type=media_type, name=part.filename or "")
    if part.file_url:
        return File(url=part.file_url, name=part.filename or "")
    if part.file_id:
        return File(id=part.file_id, name=part.filename or "")
    raise missing_field(f"{path}.file_data")


def _parse_data_url(url: str) -> tuple[str, str]:
    """Return the media type and base64 data of a data URL, or two empty texts if it is none."""
    if url[:5].lower() != "data:":
        return "", ""
    header, _, data = url[5:].partition(",")
    return header.partition(";")[0], data
