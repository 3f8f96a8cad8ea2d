"""Reads Anthropic's Messages requests: https://docs.anthropic.com/en/api/messages, and the official client's types."""

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec

from penstock.dialects.reading import other_fields, read, wrong
from penstock.domain.content import (
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

Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Base64(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class _Url(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class _Stored(msgspec.Struct, tag_field="type", tag="file"):
    file_id: str


class _Plain(msgspec.Struct, tag_field="type", tag="text"):
    data: str


class _Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _Image(msgspec.Struct, tag_field="type", tag="image"):
    source: _Base64 | _Url | _Stored


class _Inline(msgspec.Struct, tag_field="type", tag="content"):
    content: str | list[_Text | _Image]


class _Document(msgspec.Struct, tag_field="type", tag="document"):
    source: _Base64 | _Url | _Stored | _Plain | _Inline
    title: str | None = None
    context: str | None = None


class _SearchResult(msgspec.Struct, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[_Text]


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class _RedactedThinking(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class _ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class _ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Image | _Document | _SearchResult] | None = None
    is_error: bool | None = None


_Shown: TypeAlias = _Text | _Image | _Document | _SearchResult
_Block: TypeAlias = _Text | _Image | _Document | _SearchResult | _Thinking | _RedactedThinking | _ToolUse | _ToolResult


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw | None = None
    strict: bool | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(msgspec.Struct):
    """How the caller wants thinking: `display` "omitted" asks that it not be shown."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Positive | None = None
    display: str | None = None


class _Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class _OutputConfig(msgspec.Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: Positive | None = None
    system: str | list[_Text] | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    metadata: _Metadata | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None


_REQUEST = msgspec.json.Decoder(_Request)

# About billing, caching and housekeeping at the provider: nothing is lost without them.
_HINTS = frozenset(
    {
        "cache_control",
        "context_management",
        "diagnostics",
        "inference_geo",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
        "betas",
    }
)
_KNOWN = _HINTS | frozenset(_Request.__struct_fields__)
_EFFORTS = {"xhigh": "max"}


def decode(body: bytes) -> Chat:
    """The whole request; raises InvalidRequest naming the field, Unsupported for what the provider's servers do."""
    try:
        request = read(_REQUEST, body)
    except InvalidRequest as error:
        raise _unserved(error) from None
    extra = other_fields(body, _KNOWN)
    for name, value in extra:
        if name in ("mcp_servers", "container") and value not in (b"[]", b"{}"):
            raise Unsupported(f"{name}: needs the provider's own servers. Call such tools from your side.", param=name)
    if not request.messages:
        raise wrong("messages", "at least one message is required")
    tools = tuple(_tools(request.tools or []))
    choice = request.tool_choice
    return Chat(
        messages=tuple(_messages(request)),
        tools=tools,
        tool_choice=_tool_choice(choice, {tool.name for tool in tools}) if choice else None,
        parallel_tool_calls=False if choice and choice.disable_parallel_tool_use else None,
        format=_format(request),
        sampling=Sampling(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            stop=tuple(request.stop_sequences or ()),
        ),
        thinking=_thinking(request),
        user=(request.metadata and request.metadata.user_id) or "",
        extra=extra,
    )


def _unserved(error: InvalidRequest) -> InvalidRequest:
    """Of an unknown `type`, say that it is the block that cannot be served."""
    if error.param and error.param.endswith(".type") and ": invalid value " in error.message:
        kind = error.message.rpartition("invalid value ")[2]
        return Unsupported(
            f"{error.param}: {kind} is not something that can be handed to a model here", param=error.param
        )
    return error


def _messages(request: _Request) -> Iterator[Message]:
    if request.system:
        yield Message("system", tuple(_parts(request.system, "system")))
    names: dict[str, str] = {}
    for at, message in enumerate(request.messages):
        path = f"messages.{at}.content"
        if message.role == "assistant":
            yield _assistant(message.content, path, names)
        else:
            yield from _turn(message, path, names)


def _assistant(content: str | list[_Block], path: str, names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message("assistant", (Text(content),))
    parts: list[Part] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    signature = ""
    for at, block in enumerate(content):
        match block:
            case _Text(text):
                parts.append(Text(text))
            case _Thinking():
                thinking.append(block.thinking)
                signature = block.signature or signature
            case _RedactedThinking():
                pass  # only its author could read it
            case _ToolUse():
                calls.append(_tool_call(block, f"{path}.{at}"))
                names[block.id] = block.name
            case _:
                raise wrong(f"{path}.{at}.type", "an assistant's message has only text, thinking and tool_use blocks")
    return Message(
        "assistant",
        tuple(parts),
        tool_calls=tuple(calls),
        thinking="".join(thinking),
        thinking_signature=signature,
    )


def _tool_call(block: _ToolUse, path: str) -> ToolCall:
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise wrong(f"{path}.input", "must be an object")
    return ToolCall(block.id, block.name, arguments)


def _turn(message: _Message, path: str, names: dict[str, str]) -> Iterator[Message]:
    """A user's (or system's) message: tool results in it become messages of their own, in their place."""
    if isinstance(message.content, str):
        yield Message(message.role, (Text(message.content),))
        return
    parts: list[Part] = []
    said = False
    for at, block in enumerate(message.content):
        match block:
            case _ToolResult() if message.role == "user":
                if parts:
                    yield Message(message.role, tuple(parts))
                    parts.clear()
                said = True
                yield Message(
                    "tool",
                    tuple(_parts(block.content or "", f"{path}.{at}.content")),
                    tool_call_id=block.tool_use_id,
                    name=names.get(block.tool_use_id, ""),
                    is_error=bool(block.is_error),
                )
            case _Text() | _Image() | _Document() | _SearchResult():
                parts.extend(_part(block, f"{path}.{at}"))
            case _:
                raise wrong(f"{path}.{at}.type", f"a block of this type cannot stand in a {message.role} message")
    if parts or not said:
        yield Message(message.role, tuple(parts))


def _parts(content: str | list[_Text] | list[_Shown], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, block in enumerate(content):
        yield from _part(block, f"{path}.{at}")


def _part(block: _Shown, path: str) -> Iterator[Part]:
    match block:
        case _Text(text):
            yield Text(text)
        case _Image(source):
            yield _image(source, path)
        case _Document():
            yield from _document(block, path)
        case _SearchResult():
            text = "\n".join(part.text for part in block.content)
            yield Text(f"{block.title}\n{block.source}\n{text}")


def _image(source: _Base64 | _Url | _Stored, path: str) -> Image:
    match source:
        case _Base64():
            return Image(data=source.data, media_type=source.media_type)
        case _Url(url):
            return Image(url=url)
        case _Stored():
            raise Unsupported(
                f"{path}.source: no files are stored here. Send the image itself (base64) or its url.",
                param=f"{path}.source",
            )


def _document(block: _Document, path: str) -> Iterator[Part]:
    heading = "\n".join(line for line in (block.title, block.context) if line)
    match block.source:
        case _Base64() as source:
            yield File(data=source.data, media_type=source.media_type, name=block.title or "")
        case _Url(url):
            yield File(url=url, name=block.title or "")
        case _Stored(file_id):
            yield File(id=file_id, name=block.title or "")
        case _Plain(data):
            yield Text(f"{heading}\n{data}" if heading else data)
        case _Inline(content):
            if heading:
                yield Text(f"{heading}\n")
            yield from _parts(content, f"{path}.source.content")  # type: ignore[arg-type]


def _tools(tools: list[_Tool]) -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise Unsupported(
                f"tools.{at}: {tool.type} is the provider's own tool. Give tools with an input_schema.",
                param=f"tools.{at}.type",
            )
        if not tool.name:
            raise wrong(f"tools.{at}.name", "field required")
        schema = bytes(tool.input_schema or b"")
        if not schema.startswith(b"{"):
            raise wrong(f"tools.{at}.input_schema", "must be an object" if schema else "field required")
        yield Tool(tool.name, tool.description or "", schema, tool.strict)


def _tool_choice(choice: _ToolChoice, names: set[str]) -> ToolChoice:
    match choice.type:
        case "any" if not names:
            raise wrong("tool_choice", "may be given only together with tools")
        case "any":
            return ToolChoice("required")
        case "tool" if not choice.name:
            raise wrong("tool_choice.name", "field required")
        case "tool" if choice.name not in names:
            raise wrong("tool_choice.name", f"{choice.name!r} is not among the tools")
        case "tool":
            return ToolChoice("function", choice.name or "")
        case mode:
            return ToolChoice(mode)


def _format(request: _Request) -> Format | None:
    for param, given in (
        ("output_config.format", request.output_config and request.output_config.format),
        ("output_format", request.output_format),
    ):
        if given:
            schema = bytes(given.schema)
            if not schema.startswith(b"{"):
                raise wrong(f"{param}.schema", "must be an object")
            return Format(schema, strict=True)
    return None


def _thinking(request: _Request) -> Thinking | None:
    effort = (request.output_config and request.output_config.effort) or ""
    effort = _EFFORTS.get(effort, effort)
    match request.thinking:
        case None:
            return Thinking(effort=effort) if effort else None
        case ThinkingConfig(type="disabled"):
            return Thinking(enabled=False)
        case ThinkingConfig(type="enabled", budget_tokens=None):
            raise wrong("thinking.budget_tokens", "field required")
        case config:
            return Thinking(effort=effort, budget=config.budget_tokens)
