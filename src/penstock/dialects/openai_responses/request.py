"""Reads requests of OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses/create.

The gateway keeps no conversations: what points to stored ones is refused, never silently forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from penstock.dialects.json_body import decode_body, other_fields, wrong
from penstock.dialects.openai_responses import schema as wire
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
from penstock.domain.errors import Unsupported

_REQUEST = msgspec.json.Decoder(wire.Request)
_KIND = msgspec.json.Decoder(wire.Kind)
_MESSAGE = msgspec.json.Decoder(wire.Message)
_CALL = msgspec.json.Decoder(wire.FunctionCall)
_OUTPUT = msgspec.json.Decoder(wire.FunctionCallOutput)
_REASONING = msgspec.json.Decoder(wire.Reasoning)

# About billing, caching, and tools that run at the provider: nothing is lost without them.
_HINTS = frozenset(
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
_KNOWN = _HINTS | frozenset(wire.Request.__struct_fields__)
_LOGPROBS = "message.output_text.logprobs"
_EFFORTS = {"xhigh": "max"}


def decode(body: bytes) -> Chat:
    """The whole request; raises InvalidRequest naming the field, Unsupported for what OpenAI keeps or runs itself."""
    request = decode_body(_REQUEST, body)
    _check_stateless(request)
    tools, choice = _tool_choice(request, tuple(_tools(request.tools or [])))
    extra = other_fields(body, _KNOWN)
    if request.text and request.text.verbosity:
        extra += (("verbosity", msgspec.json.encode(request.text.verbosity)),)
    messages = tuple(_messages(request))
    if not messages:
        raise wrong("input", "at least one item is required")
    return Chat(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        format=_format(request.text.format) if request.text and request.text.format else None,
        sampling=_sampling(request),
        thinking=_thinking(request.reasoning),
        user=request.user or request.safety_identifier or "",
        extra=extra,
    )


def _check_stateless(request: wire.Request) -> None:
    stored = {
        "previous_response_id": (request.previous_response_id or "").encode(),
        "conversation": bytes(request.conversation),
        "prompt": bytes(request.prompt),
    }
    for name, value in stored.items():
        if value not in (b"", b"null"):
            raise Unsupported(f"{name}: nothing is stored here. Send the whole conversation in `input`.", param=name)
    if request.background:
        raise Unsupported(
            "background: answers are not kept here. Wait for the answer, or stream it.", param="background"
        )


def _sampling(request: wire.Request) -> Sampling:
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


def _thinking(config: wire.ReasoningConfig | None) -> Thinking | None:
    if config is None or config.effort is None:
        return None
    if config.effort == "none":
        return Thinking(enabled=False)
    return Thinking(effort=_EFFORTS.get(config.effort, config.effort))


def _format(config: wire.Format) -> Format | None:
    if config.type == "text":
        return None
    if config.type == "json_object":
        return Format()
    schema = bytes(config.schema)
    if not schema.startswith(b"{"):
        raise wrong("text.format.schema", "must be an object" if schema else "field required")
    return Format(schema, config.name or "", config.strict, config.description or "")


def _tools(tools: list[wire.Tool]) -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        if tool.type != "function":
            raise Unsupported(
                f"tools.{at}: the tool {tool.type} is OpenAI's own. Only function tools can be used here.",
                param=f"tools.{at}.type",
            )
        if not tool.name:
            raise wrong(f"tools.{at}.name", "field required, beside `type`")
        schema = bytes(tool.parameters) or b"null"
        if schema != b"null" and not schema.startswith(b"{"):
            raise wrong(f"tools.{at}.parameters", "must be an object")
        yield Tool(tool.name, tool.description or "", b"" if schema == b"null" else schema, tool.strict)


def _tool_choice(request: wire.Request, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The tools that may be called, and how."""
    choice = request.tool_choice
    if choice == "required" and not tools:
        raise wrong("tool_choice", "may be `required` only together with tools")
    if choice is None or isinstance(choice, str):
        return tools, ToolChoice(choice) if choice else None
    names = {tool.name for tool in tools}
    if choice.type == "function":
        if choice.name not in names:
            raise wrong(
                "tool_choice.name", f"{choice.name!r} is not among the tools" if choice.name else "field required"
            )
        return tools, ToolChoice("function", choice.name or "")
    if choice.type != "allowed_tools":
        raise Unsupported(
            f"tool_choice: the tool {choice.type} is OpenAI's own. Only function tools can be used here.",
            param="tool_choice.type",
        )
    for at, allowed in enumerate(choice.tools or []):
        if allowed.name not in names:
            raise wrong(f"tool_choice.tools.{at}.name", f"{allowed.name!r} is not among the tools")
    some = {allowed.name for allowed in choice.tools or []}
    return tuple(tool for tool in tools if tool.name in some), ToolChoice(choice.mode or "auto")


@dataclass(slots=True)
class _Turn:
    """An assistant's turn, gathered from the items that it was cut into."""

    parts: list[Part] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    signature: str = ""
    refusal: str = ""

    @property
    def spoken(self) -> bool:
        return bool(self.parts or self.calls or self.refusal)

    def message(self) -> Message:
        return Message(
            "assistant",
            tuple(self.parts),
            tool_calls=tuple(self.calls),
            thinking="".join(self.thinking),
            thinking_signature=self.signature,
            refusal=self.refusal,
        )


def _messages(request: wire.Request) -> Iterator[Message]:
    if request.instructions:
        yield Message("system", (Text(request.instructions),))
    if isinstance(request.input, str):
        yield Message("user", (Text(request.input),))
        return
    names: dict[str, str] = {}
    turn: _Turn | None = None
    for at, item in enumerate(request.input):
        path = f"input.{at}"
        kind = decode_body(_KIND, item, path)
        assistant = kind.type in ("reasoning", "function_call") or kind.role == "assistant"
        if turn is not None and (not assistant or (kind.type != "function_call" and turn.spoken)):
            yield turn.message()
            turn = None
        if assistant:
            turn = turn or _Turn()
            _add(turn, item, kind, path, names)
        else:
            yield _message(item, kind, path, names)
    if turn is not None:
        yield turn.message()


def _add(turn: _Turn, item: msgspec.Raw, kind: wire.Kind, path: str, names: dict[str, str]) -> None:
    if kind.type == "reasoning":
        reasoning = decode_body(_REASONING, item, path)
        turn.thinking.extend(said.text for said in reasoning.content or reasoning.summary or [])
        turn.signature = reasoning.encrypted_content or turn.signature
    elif kind.type == "function_call":
        call = decode_body(_CALL, item, path)
        names[call.call_id] = call.name
        turn.calls.append(ToolCall(call.call_id, call.name, call.arguments))
    else:
        content = decode_body(_MESSAGE, item, path).content
        refusals = [] if isinstance(content, str) else [part for part in content if part.type == "refusal"]
        turn.refusal = "".join(part.refusal or "" for part in refusals)
        said = content if isinstance(content, str) else [part for part in content if part.type != "refusal"]
        turn.parts.extend(_parts(said, f"{path}.content"))


def _message(item: msgspec.Raw, kind: wire.Kind, path: str, names: dict[str, str]) -> Message:
    if kind.type == "message" or (kind.type is None and kind.role is not None):
        message = decode_body(_MESSAGE, item, path)
        return Message(message.role, tuple(_parts(message.content, f"{path}.content")))
    if kind.type == "function_call_output":
        output = decode_body(_OUTPUT, item, path)
        parts = tuple(_parts(output.output, f"{path}.output"))
        return Message("tool", parts, tool_call_id=output.call_id, name=names.get(output.call_id, ""))
    if kind.type in (None, "item_reference"):
        raise Unsupported(f"{path}: items are not stored here. Send the item itself.", param=path)
    raise Unsupported(f"{path}: an item of type {kind.type} cannot be handed to a model here", param=f"{path}.type")


def _parts(content: str | list[wire.Part], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, part in enumerate(content):
        yield _part(part, f"{path}.{at}")


def _part(part: wire.Part, path: str) -> Part:
    match part.type:
        case "input_text" | "output_text" | "text":
            if part.text is None:
                raise wrong(f"{path}.text", "field required")
            return Text(part.text)
        case "input_image":
            return _image(part, path)
        case "input_file":
            return _file(part, path)
        case "input_audio":
            if part.input_audio is None:
                raise wrong(f"{path}.input_audio", "field required")
            return Audio(part.input_audio.data, part.input_audio.format)
        case unknown:
            raise wrong(f"{path}.type", f"content of type {unknown!r} is not known")


def _image(part: wire.Part, path: str) -> Image:
    if part.image_url:
        media_type, data = _data_url(part.image_url)
        if data:
            return Image(data=data, media_type=media_type, detail=part.detail or "")
        return Image(url=part.image_url, detail=part.detail or "")
    if part.file_id:
        raise Unsupported(
            f"{path}.file_id: no files are stored here. Send the image as a data url.", param=f"{path}.file_id"
        )
    raise wrong(f"{path}.image_url", "field required")


def _file(part: wire.Part, path: str) -> File:
    if part.file_data:
        media_type, data = _data_url(part.file_data)
        return File(data=data or part.file_data, media_type=media_type, name=part.filename or "")
    if part.file_url:
        return File(url=part.file_url, name=part.filename or "")
    if part.file_id:
        return File(id=part.file_id, name=part.filename or "")
    raise wrong(f"{path}.file_data", "field required")


def _data_url(url: str) -> tuple[str, str]:
    """Media type and base64 data of a data URL; two empty texts when it is none."""
    if url[:5].lower() != "data:":
        return "", ""
    head, _, data = url[5:].partition(",")
    return head.partition(";")[0], data
