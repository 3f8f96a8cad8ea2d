"""Decoding of Messages requests: https://docs.anthropic.com/en/api/messages, and the official client's types."""

from collections.abc import Iterator

import msgspec

from penstock.dialects.anthropic import schema
from penstock.dialects.anthropic.unknown_blocks import replace_unknown_blocks
from penstock.dialects.json_body import collect_unknown_fields, decode_body, field_error, missing_field
from penstock.dialects.thinking_effort import parse_effort
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

_decoder = msgspec.json.Decoder(schema.Request)

_KNOWN_FIELDS = frozenset(schema.Request.__struct_fields__)


def decode_chat(body: bytes) -> Chat:
    """Decode the complete request. Raises InvalidRequest that names the field, and Unsupported."""
    ignored: list[str] = []
    try:
        request = decode_body(_decoder, body)
    except InvalidRequest as error:
        if not (error.param or "").endswith(".type"):
            raise
        request = decode_body(_decoder, replace_unknown_blocks(body, ignored))
    if not request.messages:
        raise field_error("messages", "must have at least one message")
    tools = tuple(_parse_tools(request.tools or [], ignored))
    choice = request.tool_choice
    return Chat(
        messages=tuple(_parse_messages(request)),
        tools=tools,
        tool_choice=_parse_tool_choice(choice, {tool.name for tool in tools}, ignored) if choice else None,
        parallel_tool_calls=False if choice and choice.disable_parallel_tool_use else None,
        format=_parse_format(request),
        sampling=Sampling(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            stop=tuple(request.stop_sequences or ()),
        ),
        thinking=_parse_thinking(request),
        user=(request.metadata and request.metadata.user_id) or "",
        extra=collect_unknown_fields(body, _KNOWN_FIELDS),
        ignored=tuple(dict.fromkeys(ignored)),
    )


def _parse_messages(request: schema.Request) -> Iterator[Message]:
    if request.system:
        yield Message("system", tuple(_parse_parts(request.system, "system")))
    names: dict[str, str] = {}
    for at, message in enumerate(request.messages):
        path = f"messages.{at}.content"
        if message.role == "assistant":
            yield _parse_assistant_message(message.content, path, names)
        else:
            yield from _parse_message(message, path, names)


def _parse_assistant_message(content: str | list[schema.Block], path: str, names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message("assistant", (Text(content),))
    parts: list[Part] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    signature = ""
    for at, block in enumerate(content):
        match block:
            case schema.Text(text):
                parts.append(Text(text))
            case schema.Thinking():
                thinking.append(block.thinking)
                signature = block.signature or signature
            case schema.RedactedThinking():
                pass  # encrypted for the model that wrote it
            case schema.ToolUse():
                calls.append(_parse_tool_call(block, f"{path}.{at}"))
                names[block.id] = block.name
            case _:
                raise field_error(f"{path}.{at}.type", "must be text, thinking or tool_use in an assistant message")
    return Message(
        "assistant",
        tuple(parts),
        tool_calls=tuple(calls),
        thinking="".join(thinking),
        thinking_signature=signature,
    )


def _parse_tool_call(block: schema.ToolUse, path: str) -> ToolCall:
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise field_error(f"{path}.input", "must be an object")
    return ToolCall(block.id, block.name, arguments)


def _parse_message(message: schema.Message, path: str, names: dict[str, str]) -> Iterator[Message]:
    """Yield the messages of a user or system message. Tool results in it become separate messages, in order."""
    if isinstance(message.content, str):
        yield Message(message.role, (Text(message.content),))
        return
    parts: list[Part] = []
    has_tool_results = False
    for at, block in enumerate(message.content):
        match block:
            case schema.ToolResult() if message.role == "user":
                if parts:
                    yield Message(message.role, tuple(parts))
                    parts.clear()
                has_tool_results = True
                content = tuple(_parse_parts(block.content or "", f"{path}.{at}.content"))
                yield Message(
                    "tool",
                    _mark_as_error(content) if block.is_error else content,
                    tool_call_id=block.tool_use_id,
                    name=names.get(block.tool_use_id, ""),
                    is_error=bool(block.is_error),
                )
            case schema.Text() | schema.Image() | schema.Document() | schema.SearchResult():
                parts.extend(_parse_part(block, f"{path}.{at}"))
            case _:
                raise field_error(f"{path}.{at}.type", f"is a block type that a {message.role} message cannot have")
    if parts or not has_tool_results:
        yield Message(message.role, tuple(parts))


def _mark_as_error(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Say in the text of a tool's result that the call failed: other APIs have no field for it."""
    match parts:
        case (Text(text), *rest):
            return (Text(f"Error: {text}"), *rest)
        case _:
            return (Text("Error"), *parts)


def _parse_parts(content: str | list[schema.Text] | list[schema.InputBlock], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, block in enumerate(content):
        yield from _parse_part(block, f"{path}.{at}")


def _parse_part(block: schema.InputBlock, path: str) -> Iterator[Part]:
    match block:
        case schema.Text(text):
            yield Text(text)
        case schema.Image(source):
            yield _parse_image(source, path)
        case schema.Document():
            yield from _parse_document(block, path)
        case schema.SearchResult():
            text = "\n".join(part.text for part in block.content)
            yield Text(f"{block.title}\n{block.source}\n{text}")


def _parse_image(source: schema.Base64Source | schema.UrlSource | schema.UploadedFile, path: str) -> Image:
    match source:
        case schema.Base64Source():
            return Image(data=source.data, media_type=source.media_type)
        case schema.UrlSource(url):
            return Image(url=url)
        case schema.UploadedFile():
            raise Unsupported(
                f"`{path}.source` is an uploaded file, and files are not stored here. Send the image as base64 or URL.",
                param=f"{path}.source",
            )


def _parse_document(block: schema.Document, path: str) -> Iterator[Part]:
    heading = "\n".join(line for line in (block.title, block.context) if line)
    match block.source:
        case schema.Base64Source() as source:
            yield File(data=source.data, media_type=source.media_type, name=block.title or "")
        case schema.UrlSource(url):
            yield File(url=url, name=block.title or "")
        case schema.UploadedFile(file_id):
            yield File(id=file_id, name=block.title or "")
        case schema.PlainText(data):
            yield Text(f"{heading}\n{data}" if heading else data)
        case schema.InlineContent(content):
            if heading:
                yield Text(f"{heading}\n")
            yield from _parse_parts(content, f"{path}.source.content")  # type: ignore[arg-type]


def _parse_tools(tools: list[schema.Tool], ignored: list[str]) -> Iterator[Tool]:
    """Yield the tools with a schema. Tools of the provider are left out: `ignored` gets their names."""
    for at, tool in enumerate(tools):
        schema_json = bytes(tool.input_schema)
        if tool.type not in (None, "custom") and not schema_json.startswith(b"{"):
            ignored.append(f"tools.{tool.type}")
            continue
        if not tool.name:
            raise missing_field(f"tools.{at}.name")
        if not schema_json.startswith(b"{"):
            param = f"tools.{at}.input_schema"
            raise field_error(param, "must be an object") if schema_json else missing_field(param)
        yield Tool(tool.name, tool.description or "", schema_json, tool.strict)


def _parse_tool_choice(choice: schema.ToolChoice, names: set[str], ignored: list[str]) -> ToolChoice | None:
    match choice.type:
        case "any" | "tool" if not names and ignored:
            ignored.append("tool_choice")
            return None
        case "any" if not names:
            raise field_error("tool_choice", "needs `tools`")
        case "any":
            return ToolChoice("required")
        case "tool" if not choice.name:
            raise missing_field("tool_choice.name")
        case "tool" if choice.name not in names:
            raise field_error("tool_choice.name", f"is {choice.name!r}, which is not in `tools`")
        case "tool":
            return ToolChoice("function", choice.name or "")
        case mode:
            return ToolChoice(mode)


def _parse_format(request: schema.Request) -> Format | None:
    for param, field in (
        ("output_config.format", request.output_config and request.output_config.format),
        ("output_format", request.output_format),
    ):
        if field:
            schema_json = bytes(field.schema)
            if not schema_json.startswith(b"{"):
                raise field_error(f"{param}.schema", "must be an object")
            return Format(schema_json, strict=True)
    return None


def _parse_thinking(request: schema.Request) -> Thinking | None:
    """Return the settings for thinking. `adaptive`, and any type that is new, allows thinking like `enabled`."""
    effort = parse_effort((request.output_config and request.output_config.effort) or "")
    fields = ("output_config.effort",) if effort else ()
    config = request.thinking
    if config is None:
        return Thinking(effort=effort, fields=fields) if effort else None
    if config.type == "disabled":
        return Thinking(enabled=False)
    return Thinking(effort=effort, budget=config.budget_tokens or None, fields=("thinking", *fields))
