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
from penstock.dialects.thinking_effort import parse_effort
from penstock.domain.content import Chat, Format, Json, Thinking, Tool, ToolChoice
from penstock.domain.errors import InvalidRequest


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
    """All fields of a chat request that other engines may support.

    Clients of Ollama send its `format`, `options` and `think` here, too.
    """

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
    enable_thinking: bool | None = None
    thinking: Raw = NULL
    format: Raw = NULL
    options: Raw = NULL
    chat_template_kwargs: dict[str, Any] | None = None
    thinking_budget_tokens: int | None = None
    user: str | None = None
    stream_options: StreamOptions | None = None


class ThinkingObject(msgspec.Struct):
    """Settings for thinking in Anthropic's format."""

    type: str = "enabled"
    budget_tokens: int | None = None


class OllamaOptions(msgspec.Struct):
    """Ollama's options that are fields of their own in this API."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None


# Template arguments about thinking are translated; with any others `chat_template_kwargs` is kept as an unknown field.
_THINKING_ARGUMENTS = frozenset({"enable_thinking", "reasoning_effort"})
_KNOWN_FIELDS = IGNORED_FIELDS.union(ChatFields.__struct_fields__)
_KNOWN_OPTIONS = frozenset(OllamaOptions.__struct_fields__)
_decoder = msgspec.json.Decoder(ChatFields)
_options_decoder = msgspec.json.Decoder(OllamaOptions)
_thinking_decoder = msgspec.json.Decoder(ThinkingObject)


def decode_chat(body: bytes) -> Chat:
    """Decode the complete request. Raises InvalidRequest that names the field, or Unsupported."""
    fields = decode_body(_decoder, body, brackets=True)
    options = _apply_options(fields)
    ignored: list[str] = []
    tools = _parse_tools(fields, ignored)
    return Chat(
        messages=parse_messages(fields.messages),
        tools=tools,
        tool_choice=_parse_tool_choice(fields, bool(tools), ignored),
        parallel_tool_calls=fields.parallel_tool_calls,
        format=_parse_ollama_format(fields.format) or to_format(fields.response_format),
        sampling=to_sampling(
            fields,
            max_tokens=fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens,
            logprobs=fields.logprobs or False,
            top_logprobs=fields.top_logprobs,
        ),
        thinking=_parse_thinking(fields),
        user=fields.user or "",
        options=options,
        extra=_collect_extra(fields, body),
        ignored=tuple(dict.fromkeys(ignored)),
    )


def _apply_options(fields: ChatFields) -> tuple[tuple[str, Json], ...]:
    """Set the fields that `options` has and the request has not; return the other options."""
    if not bytes(fields.options).startswith(b"{"):
        return ()
    options = decode_body(_options_decoder, fields.options, "options")
    if fields.max_tokens is None and fields.max_completion_tokens is None and (options.num_predict or 0) > 0:
        fields.max_tokens = options.num_predict
    for name in _KNOWN_OPTIONS - {"num_predict"}:
        if getattr(fields, name) is None:
            setattr(fields, name, getattr(options, name))
    return collect_unknown_fields(bytes(fields.options), _KNOWN_OPTIONS)


def _parse_ollama_format(raw: Raw) -> Format | None:
    if bytes(raw) == b'"json"':
        return Format()
    return Format(bytes(raw)) if bytes(raw).startswith(b"{") and len(raw) > len(b"{}") else None


def _collect_extra(fields: ChatFields, body: bytes) -> tuple[tuple[str, Json], ...]:
    extra = collect_unknown_fields(body, _KNOWN_FIELDS)
    template = fields.chat_template_kwargs
    if template and template.keys() - _THINKING_ARGUMENTS:
        extra += (("chat_template_kwargs", msgspec.json.encode(template)),)
    if not any(name == "modalities" for name, _ in extra):
        return extra
    return tuple((name, raw) for name, raw in extra if name != "modalities" or raw.replace(b" ", b"") != b'["text"]')


def _parse_tools(fields: ChatFields, ignored: list[str]) -> tuple[Tool, ...]:
    """Return the functions. Tools of a provider are left out: `ignored` gets their names."""
    functions: list[FunctionObject] = []
    for i, tool in enumerate(fields.tools or ()):
        if tool.function is not None:
            functions.append(tool.function)
        elif tool.type == "function":
            raise missing_field(f"tools[{i}].function")
        else:
            ignored.append(f"tools.{tool.type}")
    functions.extend(fields.functions or ())
    return tuple(Tool(f.name, f.description or "", to_json(f.parameters), f.strict) for f in functions)


def _parse_tool_choice(fields: ChatFields, has_tools: bool, ignored: list[str]) -> ToolChoice | None:
    choice: Any = fields.tool_choice if fields.tool_choice is not None else fields.function_call
    if choice is None or choice == "":
        return None
    if choice == "any":  # Mistral's name
        choice = "required"
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            raise InvalidRequest(
                f"`tool_choice` is `{choice}`. It must be auto, none, required or a function.", param="tool_choice"
            )
        if not has_tools and choice == "required" and ignored:
            ignored.append("tool_choice")
            return None
        return ToolChoice(choice)
    named = choice if isinstance(choice, NamedFunction) else choice.function
    if named is None:
        ignored.append("tool_choice")
        return None
    return ToolChoice("function", named.name)


def _parse_thinking(fields: ChatFields) -> Thinking | None:
    reasoning, template, think = fields.reasoning or Reasoning(), fields.chat_template_kwargs or {}, fields.think
    switch = _parse_thinking_object(fields.thinking)
    efforts = {"reasoning_effort": fields.reasoning_effort, "reasoning": reasoning.effort, "think": think}
    efforts["chat_template_kwargs"] = template.get("reasoning_effort")
    switches = {
        "reasoning": reasoning.enabled,
        "chat_template_kwargs": template.get("enable_thinking"),
        "think": think,
        "enable_thinking": fields.enable_thinking,
        "thinking": None if switch is None else switch.type != "disabled",
    }
    budgets = {
        "reasoning": reasoning.max_tokens,
        "thinking_budget_tokens": fields.thinking_budget_tokens,
        "thinking": (switch and switch.budget_tokens) or None,
    }
    asked = [name for name, value in efforts.items() if isinstance(value, str) and value]
    asked += [name for name, value in switches.items() if isinstance(value, bool)]
    asked += [name for name, value in budgets.items() if value is not None]
    if not asked:
        return None
    names = tuple(dict.fromkeys(asked))
    effort = next((parse_effort(value) for value in efforts.values() if isinstance(value, str) and value), "")
    if effort == "none" or False in switches.values():
        return Thinking(enabled=False, fields=names)
    return Thinking(effort=effort, budget=next((b for b in budgets.values() if b is not None), None), fields=names)


def _parse_thinking_object(raw: Raw) -> ThinkingObject | None:
    value = bytes(raw)
    if value in (b"true", b"false"):
        return ThinkingObject("enabled" if value == b"true" else "disabled")
    return decode_body(_thinking_decoder, raw, "thinking") if value.startswith(b"{") else None
