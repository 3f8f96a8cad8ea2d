"""OpenAI's messages, read into the gateway's own."""

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
    """Base64 sound."""

    data: str
    format: str


class FileObject(msgspec.Struct):
    """A document: in the request, or uploaded before."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class ContentPart(msgspec.Struct):
    """Any kind of part; `type` says which of the others counts."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: FileObject | None = None


class FunctionCall(msgspec.Struct):
    """What the model called; some callers send the arguments as an object instead of as its text."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCallObject(msgspec.Struct):
    """One call of an assistant's message."""

    function: FunctionCall | None = None
    id: str | None = None
    type: str | None = None


class MessageObject(msgspec.Struct):
    """A message as sent; `reasoning` and `reasoning_content` are two servers' names for the same."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


def read_messages(messages: list[MessageObject]) -> tuple[Message, ...]:
    """The conversation; functions of the old form get made-up ids, by which calls and results find each other."""
    if not messages:
        raise InvalidRequest("`messages` must be a list of at least one message.", param="messages")
    called: dict[str, str] = {}
    return tuple(_message(message, i, called) for i, message in enumerate(messages))


def _message(sent: MessageObject, index: int, called: dict[str, str]) -> Message:
    where = f"messages[{index}]"
    if sent.role not in ROLES:
        raise InvalidRequest(
            f"`{where}.role` is `{sent.role}`: it must be one of {', '.join(sorted(ROLES))}.", param=f"{where}.role"
        )
    parts, refusal = _parts(sent.content, where)
    calls = [_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(sent.tool_calls or ())]
    role, tool_call_id = sent.role, sent.tool_call_id or ""
    if sent.function_call is not None:
        called[sent.function_call.name] = made_up = f"call_{sent.function_call.name}_{index}"
        calls.append(ToolCall(made_up, sent.function_call.name, _arguments(sent.function_call.arguments)))
    if role == "function":
        role, tool_call_id = "tool", called.get(sent.name or "", "")
    return Message(
        role=role,
        parts=parts,
        tool_calls=tuple(calls),
        tool_call_id=tool_call_id,
        name=sent.name or "",
        thinking=sent.reasoning_content or sent.reasoning or "",
        refusal=sent.refusal or refusal,
    )


def _parts(content: str | list[ContentPart] | None, where: str) -> tuple[tuple[Part, ...], str]:
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
            parts.append(_part(part, f"{where}.content[{i}]"))
    return tuple(parts), refusal


def _part(part: ContentPart, where: str) -> Part:
    if part.type in {"text", "input_text", "output_text"} and part.text is not None:
        return Text(part.text)
    if part.type in {"image_url", "input_image"} and part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        detail = "" if isinstance(part.image_url, str) else part.image_url.detail or ""
        return _image(url, detail, where)
    if part.type == "input_audio" and part.input_audio is not None:
        return Audio(part.input_audio.data, part.input_audio.format)
    if part.type == "file" and part.file is not None:
        return _file(part.file, where)
    known = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file"}
    if part.type in known:
        raise InvalidRequest(f"`{where}.{known[part.type]}` is missing: it is required.", param=where)
    raise Unsupported(f"`{where}.type` is `{part.type}`: only {', '.join(known)} can be translated.", param=where)


def _image(url: str, detail: str, where: str) -> Image:
    if not url.startswith("data:"):
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"`{where}.image_url.url` must be an http(s) address or a data URI.", param=where)
        return Image(url=url, detail=detail)
    media_type, data = _data_uri(url, where)
    return Image(data=data, media_type=media_type, detail=detail)


def _file(sent: FileObject, where: str) -> File:
    name = sent.filename or ""
    if sent.file_id:
        return File(id=sent.file_id, name=name)
    if not sent.file_data:
        raise InvalidRequest(f"`{where}.file` needs `file_data` or `file_id`.", param=where)
    if not sent.file_data.startswith("data:"):
        return File(data=sent.file_data, name=name)
    media_type, data = _data_uri(sent.file_data, where)
    return File(data=data, media_type=media_type, name=name)


def _data_uri(uri: str, where: str) -> tuple[str, str]:
    head, comma, data = uri.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    if not comma or not data or "base64" not in parameters:
        raise InvalidRequest(f"`{where}` must be a data URI like `data:image/png;base64,…`.", param=where)
    return media_type, data


def _tool_call(sent: ToolCallObject, where: str) -> ToolCall:
    if sent.type not in {None, "function"} or sent.function is None:
        raise Unsupported(f"`{where}` is of type `{sent.type}`: only functions can be translated.", param=where)
    return ToolCall(sent.id or "", sent.function.name, _arguments(sent.function.arguments))


def _arguments(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, str):
        return arguments
    return msgspec.json.encode(arguments or {}).decode()
