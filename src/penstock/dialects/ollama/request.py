"""Decoding of complete requests, for engines with another wire. Error messages are those of Ollama's server."""

import re
from typing import Any

import msgspec

from penstock.dialects.go_json import decode_body
from penstock.dialects.ollama.options import parse_keep_alive, parse_options
from penstock.domain.content import (
    Chat,
    Completion,
    Embedding,
    Format,
    Image,
    Json,
    Message,
    Part,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
)
from penstock.domain.errors import InvalidRequest

_ABSENT = msgspec.Raw()


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = _ABSENT


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _FunctionDeclaration(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _ABSENT


class _Tool(msgspec.Struct):
    function: _FunctionDeclaration | None = None


class _Request(msgspec.Struct):
    format: msgspec.Raw = _ABSENT
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: msgspec.Raw = _ABSENT
    think: msgspec.Raw = _ABSENT
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class _ChatRequest(_Request):
    messages: list[_Message] | None = None
    tools: list[_Tool] | None = None


class _GenerateRequest(_Request):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class _EmbedRequest(msgspec.Struct):
    input: msgspec.Raw = _ABSENT
    prompt: str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: msgspec.Raw = _ABSENT


_chat_decoder = msgspec.json.Decoder(_ChatRequest)
_generate_decoder = msgspec.json.Decoder(_GenerateRequest)
_embed_decoder = msgspec.json.Decoder(_EmbedRequest)

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_EFFORTS = ("high", "medium", "low", "max")
_IMAGE_TYPES = {"/9j/": "image/jpeg", "iVBO": "image/png", "R0lG": "image/gif", "UklG": "image/webp"}
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


def decode_chat(body: bytes) -> Chat:
    """Decode a body of /api/chat. Without messages the request loads or unloads the model."""
    request: _ChatRequest = decode_body(_chat_decoder, body, "ChatRequest")
    return _build_chat(request, _parse_messages(request.messages or []), _parse_tools(request.tools or []))


def decode_generate(body: bytes) -> Chat | Completion:
    """Decode a body of /api/generate: a conversation of one message, or raw text to continue."""
    request: _GenerateRequest = decode_body(_generate_decoder, body, "GenerateRequest")
    prompt, images = request.prompt or "", tuple(_parse_image(image) for image in request.images or ())
    if request.raw and (request.template or request.system or request.context):
        raise InvalidRequest("raw mode does not support template, system, or context", param="raw")
    if request.raw or request.suffix:
        return _build_completion(request, prompt, images)
    system = [Message("system", (Text(request.system),))] if request.system else []
    messages = (*system, Message("user", (Text(prompt), *images))) if prompt else ()
    return _build_chat(request, messages, (), _collect_generate_extra(request))


def decode_embed(body: bytes) -> Embedding:
    """Decode a body of /api/embed."""
    request: _EmbedRequest = decode_body(_embed_decoder, body, "EmbedRequest")
    value = msgspec.json.decode(request.input) if len(request.input) else None
    inputs = [value] if isinstance(value, str) and value else value
    if inputs is None or inputs == "":
        inputs = []
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise InvalidRequest("invalid input type", param="input")
    return _build_embedding(request, tuple(inputs))


def decode_embeddings(body: bytes) -> Embedding:
    """Decode a body of the older /api/embeddings, which has one prompt."""
    request: _EmbedRequest = decode_body(_embed_decoder, body, "EmbeddingRequest")
    return _build_embedding(request, (request.prompt,) if request.prompt else ())


def _build_chat(
    request: _Request, messages: tuple[Message, ...], tools: tuple[Tool, ...], extra: tuple[tuple[str, Json], ...] = ()
) -> Chat:
    sampling, options = _parse_options(request)
    return Chat(
        messages,
        tools=tools,
        format=_parse_format(request.format),
        sampling=sampling,
        thinking=_parse_thinking(request.think),
        keep_alive=_to_json(request.keep_alive),
        options=options,
        extra=_collect_context_rules(request) + extra,
    )


def _build_completion(request: _GenerateRequest, prompt: str, images: tuple[Image, ...]) -> Completion:
    sampling, options = _parse_options(request)
    extra = _collect_context_rules(request) + _collect_generate_extra(request)
    if request.system:
        extra += (("system", msgspec.json.encode(request.system)),)
    if _parse_thinking(request.think) is not None:
        extra += (("think", bytes(request.think)),)
    if request.raw and request.suffix:
        extra += (("raw", b"true"),)
    return Completion(
        (prompt,) if prompt else (),
        suffix=request.suffix or "",
        format=_parse_format(request.format),
        sampling=sampling,
        images=images,
        keep_alive=_to_json(request.keep_alive),
        options=options,
        extra=extra,
    )


def _build_embedding(request: _EmbedRequest, inputs: tuple[str, ...]) -> Embedding:
    return Embedding(
        inputs,
        dimensions=request.dimensions or None,
        truncate=request.truncate,
        keep_alive=_to_json(request.keep_alive),
        options=tuple((name, bytes(raw)) for name, raw in (request.options or {}).items() if bytes(raw) != b"null"),
    )


def _parse_options(request: _Request) -> tuple[Sampling, tuple[tuple[str, Json], ...]]:
    parse_keep_alive(request.keep_alive)
    return parse_options(request.options or {}, bool(request.logprobs), request.top_logprobs)


def _parse_messages(items: list[_Message]) -> tuple[Message, ...]:
    messages: list[Message] = []
    open_calls: list[ToolCall] = []
    for index, message in enumerate(items):
        role = (message.role or "").lower()
        if role not in _ROLES:
            where = f"messages[{index}].role"
            raise InvalidRequest(f'{where} "{role}" must be system, user, assistant or tool', param=where)
        calls = tuple(_parse_tool_call(call, f"call_{index}_{n}") for n, call in enumerate(message.tool_calls or ()))
        open_calls.extend(calls)
        name, call_id = message.tool_name or "", message.tool_call_id or ""
        if role == "tool":
            name, call_id = _match_tool_call(open_calls, name, call_id)
        parts: tuple[Part, ...] = (
            *_build_text_parts(message.content or ""),
            *(_parse_image(image) for image in message.images or ()),
        )
        messages.append(Message(role, parts, calls, tool_call_id=call_id, name=name, thinking=message.thinking or ""))
    return tuple(messages)


def _match_tool_call(open_calls: list[ToolCall], name: str, call_id: str) -> tuple[str, str]:
    """Return the tool name and call id of a tool's result.

    Clients of Ollama mostly omit ids, which other engines need.
    """
    for call in open_calls:
        if call.id == call_id if call_id else call.name == name or not name:
            open_calls.remove(call)
            return name or call.name, call.id
    return name, call_id


def _parse_tool_call(call: _ToolCall, fallback_id: str) -> ToolCall:
    function = call.function or _Function()
    arguments = bytes(function.arguments).strip() or b"{}"
    if arguments == b"null":
        arguments = b"{}"
    if arguments[:1] != b"{":
        kind = {b'"': "string", b"[": "array", b"t": "bool", b"f": "bool"}.get(arguments[:1], "number")
        where = "messages.tool_calls.function.arguments"
        go_type = "api.ToolCallFunctionArguments"
        raise InvalidRequest(
            f"json: cannot unmarshal {kind} into Go struct field ChatRequest.{where} of type {go_type}", param=where
        )
    return ToolCall(call.id or fallback_id, function.name or "", arguments.decode())


def _parse_tools(items: list[_Tool]) -> tuple[Tool, ...]:
    return tuple(
        Tool(tool.name or "", tool.description or "", _to_json(tool.parameters))
        for tool in (tool.function or _FunctionDeclaration() for tool in items)
    )


def _build_text_parts(text: str) -> tuple[Text, ...]:
    return (Text(text),) if text else ()


def _parse_image(data: str) -> Image:
    if data.startswith("data:"):
        data = data.partition(",")[2]
    if bad := _NOT_BASE64.search(data, 0, 256):
        raise InvalidRequest(f"illegal base64 data at input byte {bad.start()}", param="images")
    return Image(data, _IMAGE_TYPES.get(data[:4], "image/png"))


def _parse_format(raw: msgspec.Raw) -> Format | None:
    format_json = bytes(raw).strip()
    if format_json in (b"", b"null", b'""'):
        return None
    if format_json == b'"json"':
        return Format()
    if format_json[:1] == b"{":
        return Format(format_json)
    quoted = msgspec.json.encode(format_json.decode("utf-8", "replace")).decode()
    raise InvalidRequest(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object', param="format")


def _parse_thinking(raw: msgspec.Raw) -> Thinking | None:
    value: Any = msgspec.json.decode(raw) if len(raw) else None
    if value is None:
        return None
    if isinstance(value, bool):
        return Thinking(value, fields=("think",), is_required=True)
    if value in _EFFORTS:
        return Thinking(effort=value, fields=("think",), is_required=True)
    choices = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str):
        raise InvalidRequest(f'invalid think value: "{value}" (must be {choices})', param="think")
    raise InvalidRequest(f"think must be a boolean or string ({choices})", param="think")


def _to_json(raw: msgspec.Raw) -> Json:
    value = bytes(raw)
    return b"" if value == b"null" else value


def _collect_context_rules(request: _Request) -> tuple[tuple[str, Json], ...]:
    """Return `truncate` and `shift` if they differ from their default."""
    return tuple(
        (name, b"false") for name, value in (("truncate", request.truncate), ("shift", request.shift)) if value is False
    )


def _collect_generate_extra(request: _GenerateRequest) -> tuple[tuple[str, Json], ...]:
    extra: tuple[tuple[str, Json], ...] = ()
    if request.template:
        extra += (("template", msgspec.json.encode(request.template)),)
    if request.context:
        extra += (("context", msgspec.json.encode(request.context)),)
    return extra
