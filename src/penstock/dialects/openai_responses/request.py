"""Decoding of Responses API requests: https://platform.openai.com/docs/api-reference/responses/create.

The gateway stores no conversations. References to stored ones are rejected, never ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from penstock.dialects.json_body import collect_unknown_fields, decode_body, field_error, missing_field
from penstock.dialects.openai_responses import schema
from penstock.dialects.openai_responses.provider_items import describe_item
from penstock.dialects.openai_responses.tools import (
    CUSTOM,
    FUNCTION,
    LOCAL_SHELL,
    declare_tools,
    encode_custom_input,
    flatten_name,
)
from penstock.dialects.thinking_effort import parse_effort
from penstock.domain.content import (
    Audio,
    Chat,
    File,
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
    ToolChoice,
)
from penstock.domain.errors import InvalidRequest, Unsupported

_request_decoder = msgspec.json.Decoder(schema.Request)
_kind_decoder = msgspec.json.Decoder(schema.ItemKind)
_message_decoder = msgspec.json.Decoder(schema.Message)
_call_decoder = msgspec.json.Decoder(schema.FunctionCall)
_custom_call_decoder = msgspec.json.Decoder(schema.CustomToolCall)
_shell_call_decoder = msgspec.json.Decoder(schema.ShellCall)
_output_decoder = msgspec.json.Decoder(schema.ToolOutput)
_reasoning_decoder = msgspec.json.Decoder(schema.Reasoning)

_KNOWN_FIELDS = frozenset(schema.Request.__struct_fields__)
_LOGPROBS = "message.output_text.logprobs"
_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})


def decode_chat(body: bytes) -> Chat:
    """Decode the complete request.

    Raises InvalidRequest that names the field, and Unsupported for references to stored data.
    """
    request = decode_body(_request_decoder, body)
    _check_stateless(request)
    ignored: list[str] = []
    declared = declare_tools(request.tools or [], ignored)
    tools, choice = _select_tools(request, tuple(tool.function for tool in declared.values()), ignored)
    messages = tuple(_InputParser(ignored).parse(request))
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
        extra=_collect_extra(request, body),
        ignored=tuple(dict.fromkeys(ignored)),
    )


def _collect_extra(request: schema.Request, body: bytes) -> tuple[tuple[str, Json], ...]:
    """Return the fields that engines may know, and those that ask for what is not done here."""
    extra = collect_unknown_fields(body, _KNOWN_FIELDS)
    if request.text and request.text.verbosity:
        extra += (("verbosity", msgspec.json.encode(request.text.verbosity)),)
    for name, value in (("store", request.store), ("truncation", request.truncation)):
        if value:
            extra += ((name, msgspec.json.encode(value)),)
    if includes := [name for name in request.include or () if name != _LOGPROBS]:
        extra += (("include", msgspec.json.encode(includes)),)
    return extra


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
    effort = parse_effort((config and config.effort) or "")
    fields = ("reasoning.effort",)
    if not effort:
        return None
    return Thinking(enabled=False, fields=fields) if effort == "none" else Thinking(effort=effort, fields=fields)


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


def _select_tools(
    request: schema.Request, tools: tuple[Tool, ...], ignored: list[str]
) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """Return the tools that the model may call, and the tool choice."""
    choice = request.tool_choice
    if choice == "required" and not tools:
        if not ignored:
            raise field_error("tool_choice", "is `required`, which needs `tools`")
        ignored.append("tool_choice")
        return tools, None
    if choice is None or isinstance(choice, str):
        return tools, ToolChoice(choice) if choice else None
    names = {tool.name for tool in tools}
    if choice.type in (FUNCTION, CUSTOM):
        name = flatten_name(choice.namespace, choice.name or "")
        if name not in names:
            path = "tool_choice.name"
            raise _unknown_tool(path, choice.name) if choice.name else missing_field(path)
        return tools, ToolChoice("function", name)
    if choice.type != "allowed_tools":
        ignored.append(f"tool_choice.{choice.type}")
        return tools, None
    allowed_names = set()
    for at, allowed in enumerate(choice.tools or []):
        name = flatten_name(allowed.namespace, allowed.name)
        if allowed.type not in (FUNCTION, CUSTOM):
            ignored.append(f"tool_choice.{allowed.type}")
        elif name not in names:
            raise _unknown_tool(f"tool_choice.tools.{at}.name", allowed.name)
        allowed_names.add(name)
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


class _InputParser:
    """Parser of the items of a conversation; `ignored` gets the names of those that are left out."""

    def __init__(self, ignored: list[str]) -> None:
        self._ignored = ignored
        self._call_names: dict[str, str] = {}
        self._assistant: _AssistantMessage | None = None

    def parse(self, request: schema.Request) -> Iterator[Message]:
        """Yield the messages. Consecutive items of the assistant are one message."""
        if request.instructions:
            yield Message("system", (Text(request.instructions),))
        if isinstance(request.input, str):
            yield Message("user", (Text(request.input),))
            return
        for at, item in enumerate(request.input):
            yield from self._parse_item(item, f"input.{at}")
        yield from self._end_assistant()

    def _parse_item(self, item: msgspec.Raw, path: str) -> Iterator[Message]:
        kind = decode_body(_kind_decoder, item, path)
        if kind.type == "message" or (kind.type is None and kind.role is not None):
            if kind.role == "assistant":
                yield from self._start_assistant()
                self._add_content(decode_body(_message_decoder, item, path), path)
            else:
                yield from self._end_assistant()
                message = decode_body(_message_decoder, item, path)
                yield Message(message.role, tuple(_parse_parts(message.content, f"{path}.content")))
        elif kind.type in _OUTPUTS:
            yield from self._end_assistant()
            yield self._parse_output(item, path)
        elif kind.type in _CALLS:
            yield from self._start_assistant(may_continue=True)
            self._add_call(item, kind.type, path)
        elif kind.type == "reasoning":
            yield from self._start_assistant()
            self._add_reasoning(decode_body(_reasoning_decoder, item, path))
        elif kind.type in (None, "item_reference"):
            raise Unsupported(
                f"`{path}` refers to a stored item, and items are not stored here. Send the item itself.", param=path
            )
        elif text := describe_item(item, kind.type):
            yield from self._start_assistant()
            self._get_assistant().parts.append(Text(text))
        else:
            self._ignored.append(f"input.{kind.type}")

    def _start_assistant(self, *, may_continue: bool = False) -> Iterator[Message]:
        """Begin a message of the assistant if there is none, or the item cannot belong to it."""
        if self._assistant is not None and self._assistant.has_content and not may_continue:
            yield from self._end_assistant()
        self._get_assistant()

    def _get_assistant(self) -> _AssistantMessage:
        if self._assistant is None:
            self._assistant = _AssistantMessage()
        return self._assistant

    def _end_assistant(self) -> Iterator[Message]:
        message, self._assistant = self._assistant, None
        if message is not None:
            yield message.to_message()

    def _add_reasoning(self, reasoning: schema.Reasoning) -> None:
        message = self._get_assistant()
        message.thinking.extend(piece.text for piece in reasoning.content or reasoning.summary or [])
        message.signature = reasoning.encrypted_content or message.signature

    def _add_content(self, item: schema.Message, path: str) -> None:
        message, content = self._get_assistant(), item.content
        refusals = [] if isinstance(content, str) else [part for part in content if part.type == "refusal"]
        message.refusal = "".join(part.refusal or "" for part in refusals)
        parts = content if isinstance(content, str) else [part for part in content if part.type != "refusal"]
        message.parts.extend(_parse_parts(parts, f"{path}.content"))

    def _add_call(self, item: msgspec.Raw, kind: str, path: str) -> None:
        call: ToolCall
        if kind == "custom_tool_call":
            custom = decode_body(_custom_call_decoder, item, path)
            name = flatten_name(custom.namespace, custom.name)
            call = ToolCall(custom.call_id, name, encode_custom_input(custom.input))
        elif kind == "local_shell_call":
            shell = decode_body(_shell_call_decoder, item, path)
            action = {name: value for name, value in shell.action.items() if name != "type" and value}
            call = ToolCall(shell.call_id or shell.id or "", LOCAL_SHELL, msgspec.json.encode(action).decode())
        else:
            function = decode_body(_call_decoder, item, path)
            call = ToolCall(function.call_id, flatten_name(function.namespace, function.name), function.arguments)
        self._call_names[call.id] = call.name
        self._get_assistant().calls.append(call)

    def _parse_output(self, item: msgspec.Raw, path: str) -> Message:
        output = decode_body(_output_decoder, item, path)
        call_id = output.call_id or output.id
        if not call_id:
            raise missing_field(f"{path}.call_id")
        parts = tuple(_parse_parts(output.output, f"{path}.output"))
        return Message("tool", parts, tool_call_id=call_id, name=self._call_names.get(call_id, ""))


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
