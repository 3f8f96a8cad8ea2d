"""Ollama's requests read whole: chats, prompts and embeddings as domain content, for engines of another kind."""

import re
from typing import Any

import msgspec

from penstock.dialects.go_json import decoded
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

_NONE = msgspec.Raw()


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = _NONE


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Declared(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _NONE


class _Tool(msgspec.Struct):
    function: _Declared | None = None


class _Request(msgspec.Struct):
    format: msgspec.Raw = _NONE
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: msgspec.Raw = _NONE
    think: msgspec.Raw = _NONE
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
    input: msgspec.Raw = _NONE
    prompt: str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: msgspec.Raw = _NONE


_chat = msgspec.json.Decoder(_ChatRequest)
_generate = msgspec.json.Decoder(_GenerateRequest)
_embed = msgspec.json.Decoder(_EmbedRequest)
_numbers = msgspec.json.Decoder(float)
_strings = msgspec.json.Decoder(list[str])

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_INTEGERS = {"num_predict": "max_tokens", "top_k": "top_k", "seed": "seed"}
_FLOATS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty")
_EFFORTS = ("high", "medium", "low", "max")
_IMAGE_TYPES = {"/9j/": "image/jpeg", "iVBO": "image/png", "R0lG": "image/gif", "UklG": "image/webp"}
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def chat(body: bytes) -> Chat:
    """The content of an /api/chat body; no messages at all mean that the model is to be loaded or unloaded."""
    request: _ChatRequest = decoded(_chat, body, "ChatRequest")
    return _conversation(request, _messages(request.messages or []), _tools(request.tools or []))


def generate(body: bytes) -> Chat | Completion:
    """The content of an /api/generate body: a conversation of one turn, or raw text to continue."""
    request: _GenerateRequest = decoded(_generate, body, "GenerateRequest")
    prompt, images = request.prompt or "", tuple(_image(image) for image in request.images or ())
    if request.raw and (request.template or request.system or request.context):
        raise InvalidRequest("raw mode does not support template, system, or context", param="raw")
    if request.raw or request.suffix:
        return _completion(request, prompt, images)
    system = [Message("system", (Text(request.system),))] if request.system else []
    messages = (*system, Message("user", (Text(prompt), *images))) if prompt else ()
    return _conversation(request, messages, (), _unusual(request))


def embed(body: bytes) -> Embedding:
    """The content of an /api/embed body."""
    request: _EmbedRequest = decoded(_embed, body, "EmbedRequest")
    given = msgspec.json.decode(request.input) if len(request.input) else None
    inputs = [given] if isinstance(given, str) and given else given
    if inputs is None or inputs == "":
        inputs = []
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise InvalidRequest("invalid input type", param="input")
    return _embedding(request, tuple(inputs))


def embeddings(body: bytes) -> Embedding:
    """The content of a body for the older /api/embeddings: one prompt."""
    request: _EmbedRequest = decoded(_embed, body, "EmbeddingRequest")
    return _embedding(request, (request.prompt,) if request.prompt else ())


def keep_alive(raw: msgspec.Raw) -> float | None:
    """Seconds that a model shall stay loaded, negative for ever, None when nothing is said.

    Raises InvalidRequest. A number is seconds, a string a Go duration: https://pkg.go.dev/time#ParseDuration
    """
    value = msgspec.json.decode(raw) if len(raw) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        kind = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}[type(value)]
        raise InvalidRequest(f"Unsupported type: '{kind}'", param="keep_alive")
    if not isinstance(value, str):
        return float(value)
    if value.lstrip("+-") == "0":
        return 0.0
    parts = [(float(number), unit.strip()) for number, unit in _DURATION_PART.findall(value)]
    if _DURATION.fullmatch(value):
        seconds = sum(number * _UNITS[unit] for number, unit in parts)
        return -seconds if value.startswith("-") else seconds
    if re.fullmatch(r"[-+]?(?:[\d.]+[a-zµμ]+)*[\d.]*\d\.?", value):
        raise InvalidRequest(f'time: missing unit in duration "{value}"', param="keep_alive")
    unknown = next((unit for _, unit in parts if unit not in _UNITS), "") if value[:1].isdigit() else ""
    if unknown:
        raise InvalidRequest(f'time: unknown unit "{unknown}" in duration "{value}"', param="keep_alive")
    raise InvalidRequest(f'time: invalid duration "{value}"', param="keep_alive")


def _conversation(
    request: _Request, messages: tuple[Message, ...], tools: tuple[Tool, ...], extra: tuple[tuple[str, Json], ...] = ()
) -> Chat:
    sampling, options = _sampling(request)
    return Chat(
        messages,
        tools=tools,
        format=_format(request.format),
        sampling=sampling,
        thinking=_thinking(request.think),
        keep_alive=_kept(request.keep_alive),
        options=options,
        extra=_context_rules(request) + extra,
    )


def _completion(request: _GenerateRequest, prompt: str, images: tuple[Image, ...]) -> Completion:
    sampling, options = _sampling(request)
    extra = _context_rules(request) + _unusual(request)
    if request.system:
        extra += (("system", msgspec.json.encode(request.system)),)
    if _thinking(request.think) is not None:
        extra += (("think", bytes(request.think)),)
    if request.raw and request.suffix:
        extra += (("raw", b"true"),)
    return Completion(
        (prompt,) if prompt else (),
        suffix=request.suffix or "",
        format=_format(request.format),
        sampling=sampling,
        images=images,
        keep_alive=_kept(request.keep_alive),
        options=options,
        extra=extra,
    )


def _embedding(request: _EmbedRequest, inputs: tuple[str, ...]) -> Embedding:
    return Embedding(
        inputs,
        dimensions=request.dimensions or None,
        truncate=request.truncate,
        keep_alive=_kept(request.keep_alive),
        options=tuple((name, bytes(raw)) for name, raw in (request.options or {}).items() if bytes(raw) != b"null"),
    )


def _messages(given: list[_Message]) -> tuple[Message, ...]:
    messages: list[Message] = []
    open_calls: list[ToolCall] = []
    for index, message in enumerate(given):
        role = (message.role or "").lower()
        if role not in _ROLES:
            where = f"messages[{index}].role"
            raise InvalidRequest(f'{where} "{role}" must be system, user, assistant or tool', param=where)
        calls = tuple(_call(call, f"call_{index}_{n}") for n, call in enumerate(message.tool_calls or ()))
        open_calls.extend(calls)
        name, call_id = message.tool_name or "", message.tool_call_id or ""
        if role == "tool":
            name, call_id = _answered(open_calls, name, call_id)
        parts: tuple[Part, ...] = (*_text(message.content or ""), *(_image(image) for image in message.images or ()))
        messages.append(Message(role, parts, calls, tool_call_id=call_id, name=name, thinking=message.thinking or ""))
    return tuple(messages)


def _answered(open_calls: list[ToolCall], name: str, call_id: str) -> tuple[str, str]:
    """Which call a tool's result answers. Ollama's clients mostly leave ids out; other engines need them."""
    for call in open_calls:
        if call.id == call_id if call_id else call.name == name or not name:
            open_calls.remove(call)
            return name or call.name, call.id
    return name, call_id


def _call(call: _Call, fallback_id: str) -> ToolCall:
    function = call.function or _Function()
    arguments = bytes(function.arguments).strip() or b"{}"
    if arguments == b"null":
        arguments = b"{}"
    if arguments[:1] != b"{":
        kind = {b'"': "string", b"[": "array", b"t": "bool", b"f": "bool"}.get(arguments[:1], "number")
        where = "messages.tool_calls.function.arguments"
        wanted = "api.ToolCallFunctionArguments"
        raise InvalidRequest(
            f"json: cannot unmarshal {kind} into Go struct field ChatRequest.{where} of type {wanted}", param=where
        )
    return ToolCall(call.id or fallback_id, function.name or "", arguments.decode())


def _tools(given: list[_Tool]) -> tuple[Tool, ...]:
    return tuple(
        Tool(tool.name or "", tool.description or "", _kept(tool.parameters))
        for tool in (tool.function or _Declared() for tool in given)
    )


def _text(text: str) -> tuple[Text, ...]:
    return (Text(text),) if text else ()


def _image(data: str) -> Image:
    if data.startswith("data:"):
        data = data.partition(",")[2]
    if bad := _NOT_BASE64.search(data, 0, 256):
        raise InvalidRequest(f"illegal base64 data at input byte {bad.start()}", param="images")
    return Image(data, _IMAGE_TYPES.get(data[:4], "image/png"))


def _format(raw: msgspec.Raw) -> Format | None:
    given = bytes(raw).strip()
    if given in (b"", b"null", b'""'):
        return None
    if given == b'"json"':
        return Format()
    if given[:1] == b"{":
        return Format(given)
    shown = msgspec.json.encode(given.decode("utf-8", "replace")).decode()
    raise InvalidRequest(f'invalid format: {shown}; expected "json" or a valid JSON Schema object', param="format")


def _thinking(raw: msgspec.Raw) -> Thinking | None:
    value: Any = msgspec.json.decode(raw) if len(raw) else None
    if value is None:
        return None
    if isinstance(value, bool):
        return Thinking(value)
    if value in _EFFORTS:
        return Thinking(effort=value)
    words = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str):
        raise InvalidRequest(f'invalid think value: "{value}" (must be {words})', param="think")
    raise InvalidRequest(f"think must be a boolean or string ({words})", param="think")


def _kept(raw: msgspec.Raw) -> Json:
    kept = bytes(raw)
    return b"" if kept == b"null" else kept


def _sampling(request: _Request) -> tuple[Sampling, tuple[tuple[str, Json], ...]]:
    """How to draw tokens, and the options that only an Ollama server understands."""
    keep_alive(request.keep_alive)
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")
    known: dict[str, Any] = {"logprobs": bool(request.logprobs), "top_logprobs": request.top_logprobs}
    others: list[tuple[str, Json]] = []
    for name, raw in (request.options or {}).items():
        if bytes(raw) == b"null":
            continue
        if name in _INTEGERS:
            number = int(_number(name, raw, "integer"))
            # Below zero these two ask for what is the default anyway: no limit, a random seed.
            by_default = number < 0 and name in ("num_predict", "seed")
            known[_INTEGERS[name]] = None if by_default else number
        elif name in _FLOATS:
            known[name] = _number(name, raw, "float32")
        elif name == "stop":
            known[name] = _stop(raw)
        else:
            others.append((name, bytes(raw)))
    return Sampling(**known), tuple(others)


def _number(name: str, raw: msgspec.Raw, kind: str) -> float:
    try:
        return _numbers.decode(raw)
    except msgspec.DecodeError:
        raise InvalidRequest(f'option "{name}" must be of type {kind}', param=f"options.{name}") from None


def _stop(raw: msgspec.Raw) -> tuple[str, ...]:
    try:
        return tuple(_strings.decode(raw))
    except msgspec.DecodeError:
        kind = "an array of strings" if bytes(raw)[:1] == b"[" else "array"
        raise InvalidRequest(f'option "stop" must be of type {kind}', param="options.stop") from None


def _context_rules(request: _Request) -> tuple[tuple[str, Json], ...]:
    """`truncate` and `shift` where they are not what they are by default."""
    return tuple(
        (name, b"false") for name, value in (("truncate", request.truncate), ("shift", request.shift)) if value is False
    )


def _unusual(request: _GenerateRequest) -> tuple[tuple[str, Json], ...]:
    extra: tuple[tuple[str, Json], ...] = ()
    if request.template:
        extra += (("template", msgspec.json.encode(request.template)),)
    if request.context:
        extra += (("context", msgspec.json.encode(request.context)),)
    return extra
