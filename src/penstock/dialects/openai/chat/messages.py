"""Parsing of OpenAI's chat messages."""

from typing import Any

import msgspec

from penstock.domain.content import Audio, File, Image, Message, Part, Text, ToolCall
from penstock.domain.errors import InvalidRequest, Unsupported

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


class ImageUrl(msgspec.Struct):
    """An address, or a `data:` URI."""

    url: str
    detail: str | None = None


class InputAudio(msgspec.Struct):
    """Base64 audio."""

    data: str
    format: str


class FileObject(msgspec.Struct):
    """A document, in the request or uploaded before."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class ContentPart(msgspec.Struct):
    """A part of any kind; `type` selects the field that applies."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: FileObject | None = None


class FunctionCall(msgspec.Struct):
    """Call of a function. Some clients send the arguments as an object instead of JSON text."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCallObject(msgspec.Struct):
    """Tool call in an assistant message."""

    function: FunctionCall | None = None
    id: str | None = None
    type: str | None = None


class MessageObject(msgspec.Struct):
    """A message. `reasoning` and `reasoning_content` are two servers' names for the same field."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


def parse_messages(messages: list[MessageObject]) -> tuple[Message, ...]:
    """Parse the conversation. Deprecated function calls get generated ids that link calls and results."""
    if not messages:
        raise InvalidRequest("`messages` must be a list of at least one message.", param="messages")
    call_ids: dict[str, str] = {}
    return tuple(_parse_message(message, i, call_ids) for i, message in enumerate(messages))


def _parse_message(message: MessageObject, index: int, call_ids: dict[str, str]) -> Message:
    path = f"messages[{index}]"
    if message.role not in ROLES:
        raise InvalidRequest(
            f"`{path}.role` is `{message.role}`. It must be one of {', '.join(sorted(ROLES))}.", param=f"{path}.role"
        )
    parts, refusal = _parse_parts(message.content, path)
    calls = [_parse_tool_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())]
    role, tool_call_id = message.role, message.tool_call_id or ""
    if message.function_call is not None:
        call_ids[message.function_call.name] = generated_id = f"call_{message.function_call.name}_{index}"
        calls.append(
            ToolCall(generated_id, message.function_call.name, _encode_arguments(message.function_call.arguments))
        )
    if role == "function":
        role, tool_call_id = "tool", call_ids.get(message.name or "", "")
    return Message(
        role=role,
        parts=parts,
        tool_calls=tuple(calls),
        tool_call_id=tool_call_id,
        name=message.name or "",
        thinking=message.reasoning_content or message.reasoning or "",
        refusal=message.refusal or refusal,
    )


def _parse_parts(content: str | list[ContentPart] | None, path: str) -> tuple[tuple[Part, ...], str]:
    if content is None:
        return (), ""
    if isinstance(content, str):
        return (Text(content),) if content else (), ""
    parts: list[Part] = []
    refusal = ""
    for i, part in enumerate(content):
        if part.type == "refusal":
            refusal += part.refusal or ""
        else:
            parts.append(_parse_part(part, f"{path}.content[{i}]"))
    return tuple(parts), refusal


def _parse_part(part: ContentPart, path: str) -> Part:
    if part.type in {"text", "input_text", "output_text"} and part.text is not None:
        return Text(part.text)
    if part.type in {"image_url", "input_image"} and part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        detail = "" if isinstance(part.image_url, str) else part.image_url.detail or ""
        return _parse_image(url, detail, path)
    if part.type == "input_audio" and part.input_audio is not None:
        return Audio(part.input_audio.data, part.input_audio.format)
    if part.type == "file" and part.file is not None:
        return _parse_file(part.file, path)
    field_names = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file"}
    if part.type in field_names:
        raise InvalidRequest(f"`{path}.{field_names[part.type]}` is missing. Add this required field.", param=path)
    raise Unsupported(f"`{path}.type` is `{part.type}`. Only {', '.join(field_names)} can be translated.", param=path)


def _parse_image(url: str, detail: str, path: str) -> Image:
    if not url.startswith("data:"):
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"`{path}.image_url.url` must be an http(s) address or a data URI.", param=path)
        return Image(url=url, detail=detail)
    media_type, data = _parse_data_uri(url, path)
    return Image(data=data, media_type=media_type, detail=detail)


def _parse_file(file: FileObject, path: str) -> File:
    name = file.filename or ""
    if file.file_id:
        return File(id=file.file_id, name=name)
    if not file.file_data:
        raise InvalidRequest(f"`{path}.file` needs `file_data` or `file_id`.", param=path)
    if not file.file_data.startswith("data:"):
        return File(data=file.file_data, name=name)
    media_type, data = _parse_data_uri(file.file_data, path)
    return File(data=data, media_type=media_type, name=name)


def _parse_data_uri(uri: str, path: str) -> tuple[str, str]:
    header, comma, data = uri.removeprefix("data:").partition(",")
    media_type, *parameters = header.split(";")
    if not comma or not data or "base64" not in parameters:
        raise InvalidRequest(f"`{path}` must be a data URI like `data:image/png;base64,…`.", param=path)
    return media_type, data


def _parse_tool_call(call: ToolCallObject, path: str) -> ToolCall:
    if call.type not in {None, "function"} or call.function is None:
        raise Unsupported(f"`{path}` is of type `{call.type}`. Only functions can be translated.", param=path)
    return ToolCall(call.id or "", call.function.name, _encode_arguments(call.function.arguments))


def _encode_arguments(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, str):
        return arguments
    return msgspec.json.encode(arguments or {}).decode()
