"""Decoding a complete chat request, for engines with another wire."""

from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.json_body import collect_unknown_fields, decode_body, missing_field
from penstock.dialects.openai.chat.messages import MessageObject, parse_messages
from penstock.dialects.openai.request_fields import (
    IGNORED_FIELDS,
    NULL,
    ResponseFormat,
    SamplingFields,
    StreamOptions,
    to_format,
    to_json,
    to_sampling,
)
from penstock.domain.content import Chat, Json, Thinking, Tool, ToolChoice
from penstock.domain.errors import InvalidRequest, Unsupported


class FunctionObject(msgspec.Struct):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class ToolObject(msgspec.Struct):
    """A tool. Only functions can be translated for other engines."""

    type: str = "function"
    function: FunctionObject | None = None


class NamedFunction(msgspec.Struct):
    """Name of the function that must be called."""

    name: str


class ToolChoiceObject(msgspec.Struct):
    """Choice of one function."""

    type: str = "function"
    function: NamedFunction | None = None


class Reasoning(msgspec.Struct):
    """Reasoning effort in the format of multi-provider routers."""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class ChatFields(SamplingFields):
    """All fields of a chat request that other engines may support."""

    messages: list[MessageObject] = msgspec.field(default_factory=list)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[ToolObject] | None = None
    functions: list[FunctionObject] | None = None
    tool_choice: str | ToolChoiceObject | None = None
    function_call: str | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning: Reasoning | None = None
    think: bool | str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    thinking_budget_tokens: int | None = None
    user: str | None = None
    stream_options: StreamOptions | None = None


EFFORTS = {name: name for name in ("none", "minimal", "low", "medium", "high", "max")} | {"xhigh": "max"}
# Template arguments about thinking are translated; with any others `chat_template_kwargs` is kept as an unknown field.
_THINKING_ARGUMENTS = frozenset({"enable_thinking", "reasoning_effort"})
_KNOWN_FIELDS = IGNORED_FIELDS.union(ChatFields.__struct_fields__)
_decoder = msgspec.json.Decoder(ChatFields)


def decode_chat(body: bytes) -> Chat:
    """Decode the complete request. Raises InvalidRequest that names the field, or Unsupported."""
    fields = decode_body(_decoder, body, brackets=True)
    return Chat(
        messages=parse_messages(fields.messages),
        tools=_parse_tools(fields),
        tool_choice=_parse_tool_choice(fields),
        parallel_tool_calls=fields.parallel_tool_calls,
        format=to_format(fields.response_format),
        sampling=to_sampling(
            fields,
            max_tokens=fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens,
            logprobs=fields.logprobs or False,
            top_logprobs=fields.top_logprobs,
        ),
        thinking=_parse_thinking(fields),
        user=fields.user or "",
        extra=_collect_extra(fields, body),
    )


def _collect_extra(fields: ChatFields, body: bytes) -> tuple[tuple[str, Json], ...]:
    extra = collect_unknown_fields(body, _KNOWN_FIELDS)
    template = fields.chat_template_kwargs
    if template and template.keys() - _THINKING_ARGUMENTS:
        extra += (("chat_template_kwargs", msgspec.json.encode(template)),)
    if not any(name == "modalities" for name, _ in extra):
        return extra
    return tuple((name, raw) for name, raw in extra if name != "modalities" or raw.replace(b" ", b"") != b'["text"]')


def _parse_tools(fields: ChatFields) -> tuple[Tool, ...]:
    functions: list[FunctionObject] = []
    for i, tool in enumerate(fields.tools or ()):
        if tool.type != "function" or tool.function is None:
            path = f"tools[{i}]"
            if tool.type == "function":
                raise missing_field(f"{path}.function")
            raise Unsupported(f"`{path}` is of type `{tool.type}`. Only functions can be translated.", param=path)
        functions.append(tool.function)
    functions.extend(fields.functions or ())
    return tuple(Tool(f.name, f.description or "", to_json(f.parameters), f.strict) for f in functions)


def _parse_tool_choice(fields: ChatFields) -> ToolChoice | None:
    choice: Any = fields.tool_choice if fields.tool_choice is not None else fields.function_call
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            raise InvalidRequest(
                f"`tool_choice` is `{choice}`. It must be auto, none, required or a function.", param="tool_choice"
            )
        return ToolChoice(choice)
    named = choice if isinstance(choice, NamedFunction) else choice.function
    if named is None:
        raise Unsupported(f"`tool_choice` of type `{choice.type}` cannot be translated.", param="tool_choice")
    return ToolChoice("function", named.name)


def _parse_thinking(fields: ChatFields) -> Thinking | None:
    reasoning, template, think = fields.reasoning or Reasoning(), fields.chat_template_kwargs or {}, fields.think
    efforts = (fields.reasoning_effort, reasoning.effort, template.get("reasoning_effort"), think)
    effort = next((value for value in efforts if isinstance(value, str)), None)
    budget = fields.thinking_budget_tokens if reasoning.max_tokens is None else reasoning.max_tokens
    switches = [flag for flag in (reasoning.enabled, template.get("enable_thinking"), think) if isinstance(flag, bool)]
    if effort is not None and effort not in EFFORTS:
        raise InvalidRequest(
            f"`reasoning_effort` is `{effort}`. It must be one of {', '.join(EFFORTS)}.", param="reasoning_effort"
        )
    if effort is None and budget is None and not switches:
        return None
    if effort == "none" or False in switches:
        return Thinking(enabled=False)
    return Thinking(effort=EFFORTS.get(effort or "", ""), budget=budget)
