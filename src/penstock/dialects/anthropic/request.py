"""Reads Anthropic's Messages requests: https://docs.anthropic.com/en/api/messages, and the official client's types."""

from collections.abc import Iterator

import msgspec

from penstock.dialects.anthropic import schema as wire
from penstock.dialects.json_body import decode_body, other_fields, wrong
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

_REQUEST = msgspec.json.Decoder(wire.Request)

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
    }
)
_KNOWN = _HINTS | frozenset(wire.Request.__struct_fields__)
_EFFORTS = {"xhigh": "max"}


def decode(body: bytes) -> Chat:
    """The whole request; raises InvalidRequest naming the field, Unsupported for what the provider's servers do."""
    try:
        request = decode_body(_REQUEST, body)
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


def _messages(request: wire.Request) -> Iterator[Message]:
    if request.system:
        yield Message("system", tuple(_parts(request.system, "system")))
    names: dict[str, str] = {}
    for at, message in enumerate(request.messages):
        path = f"messages.{at}.content"
        if message.role == "assistant":
            yield _assistant(message.content, path, names)
        else:
            yield from _turn(message, path, names)


def _assistant(content: str | list[wire.Block], path: str, names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message("assistant", (Text(content),))
    parts: list[Part] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    signature = ""
    for at, block in enumerate(content):
        match block:
            case wire.Text(text):
                parts.append(Text(text))
            case wire.Thinking():
                thinking.append(block.thinking)
                signature = block.signature or signature
            case wire.RedactedThinking():
                pass  # only its author could read it
            case wire.ToolUse():
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


def _tool_call(block: wire.ToolUse, path: str) -> ToolCall:
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise wrong(f"{path}.input", "must be an object")
    return ToolCall(block.id, block.name, arguments)


def _turn(message: wire.Message, path: str, names: dict[str, str]) -> Iterator[Message]:
    """A user's (or system's) message: tool results in it become messages of their own, in their place."""
    if isinstance(message.content, str):
        yield Message(message.role, (Text(message.content),))
        return
    parts: list[Part] = []
    said = False
    for at, block in enumerate(message.content):
        match block:
            case wire.ToolResult() if message.role == "user":
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
            case wire.Text() | wire.Image() | wire.Document() | wire.SearchResult():
                parts.extend(_part(block, f"{path}.{at}"))
            case _:
                raise wrong(f"{path}.{at}.type", f"a block of this type cannot stand in a {message.role} message")
    if parts or not said:
        yield Message(message.role, tuple(parts))


def _parts(content: str | list[wire.Text] | list[wire.Shown], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, block in enumerate(content):
        yield from _part(block, f"{path}.{at}")


def _part(block: wire.Shown, path: str) -> Iterator[Part]:
    match block:
        case wire.Text(text):
            yield Text(text)
        case wire.Image(source):
            yield _image(source, path)
        case wire.Document():
            yield from _document(block, path)
        case wire.SearchResult():
            text = "\n".join(part.text for part in block.content)
            yield Text(f"{block.title}\n{block.source}\n{text}")


def _image(source: wire.Base64 | wire.Url | wire.Stored, path: str) -> Image:
    match source:
        case wire.Base64():
            return Image(data=source.data, media_type=source.media_type)
        case wire.Url(url):
            return Image(url=url)
        case wire.Stored():
            raise Unsupported(
                f"{path}.source: no files are stored here. Send the image itself (base64) or its url.",
                param=f"{path}.source",
            )


def _document(block: wire.Document, path: str) -> Iterator[Part]:
    heading = "\n".join(line for line in (block.title, block.context) if line)
    match block.source:
        case wire.Base64() as source:
            yield File(data=source.data, media_type=source.media_type, name=block.title or "")
        case wire.Url(url):
            yield File(url=url, name=block.title or "")
        case wire.Stored(file_id):
            yield File(id=file_id, name=block.title or "")
        case wire.Plain(data):
            yield Text(f"{heading}\n{data}" if heading else data)
        case wire.Inline(content):
            if heading:
                yield Text(f"{heading}\n")
            yield from _parts(content, f"{path}.source.content")  # type: ignore[arg-type]


def _tools(tools: list[wire.Tool]) -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise Unsupported(
                f"tools.{at}: {tool.type} is the provider's own tool. Give tools with an input_schema.",
                param=f"tools.{at}.type",
            )
        if not tool.name:
            raise wrong(f"tools.{at}.name", "field required")
        schema = bytes(tool.input_schema)
        if not schema.startswith(b"{"):
            raise wrong(f"tools.{at}.input_schema", "must be an object" if schema else "field required")
        yield Tool(tool.name, tool.description or "", schema, tool.strict)


def _tool_choice(choice: wire.ToolChoice, names: set[str]) -> ToolChoice:
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


def _format(request: wire.Request) -> Format | None:
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


def _thinking(request: wire.Request) -> Thinking | None:
    asked = (request.output_config and request.output_config.effort) or ""
    effort = _EFFORTS.get(asked, asked)
    match request.thinking:
        case None:
            return Thinking(effort=effort) if effort else None
        case wire.ThinkingConfig(type="disabled"):
            return Thinking(enabled=False)
        case wire.ThinkingConfig(type="enabled", budget_tokens=None):
            raise wrong("thinking.budget_tokens", "field required")
        case config:
            return Thinking(effort=effort, budget=config.budget_tokens)
