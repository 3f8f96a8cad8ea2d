"""A chat request, read whole: for an engine that is not asked in OpenAI's words."""

from typing import Annotated, Any

import msgspec
from msgspec import Raw

from penstock.dialects.openai.chat_messages import MessageObject, read_messages
from penstock.dialects.openai.usage import NULL, StreamOptions, read_body
from penstock.domain.content import Chat, Format, Json, Sampling, Thinking, Tool, ToolChoice
from penstock.domain.errors import InvalidRequest, Unsupported

Count = Annotated[int, msgspec.Meta(ge=1)]


class FunctionObject(msgspec.Struct):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class ToolObject(msgspec.Struct):
    """A tool; only functions can be told to other engines."""

    type: str = "function"
    function: FunctionObject | None = None


class NamedFunction(msgspec.Struct):
    """Which function must be called."""

    name: str


class ToolChoiceObject(msgspec.Struct):
    """The choice of one function."""

    type: str = "function"
    function: NamedFunction | None = None


class JsonSchema(msgspec.Struct):
    """The form of an answer, by name."""

    name: str | None = None
    description: str | None = None
    schema: Raw = NULL
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """text, json_object or json_schema; `schema` is how llama.cpp takes one beside json_object."""

    type: str
    json_schema: JsonSchema | None = None
    schema: Raw = NULL


class Reasoning(msgspec.Struct):
    """How hard to think, as routers of several providers take it."""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class SamplingFields(msgspec.Struct):
    """How tokens are drawn: OpenAI's fields, and those that vLLM and llama.cpp add."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    n: Count | None = None


class ChatFields(SamplingFields):
    """Everything that a chat request says which other engines may understand."""

    messages: list[MessageObject] = []
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


# What bears on the provider's bookkeeping only, or repeats what a translated request says by itself.
IDLE = frozenset(
    {
        *("model", "stream", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_retention", "prediction", "user"),
    }
)
EFFORTS = {name: name for name in ("none", "minimal", "low", "medium", "high", "max")} | {"xhigh": "max"}
# Arguments of a chat template that are not about thinking go on with the rest of what nobody here knows.
_TEMPLATE = frozenset({"enable_thinking", "reasoning_effort"})
_KNOWN = IDLE.union(ChatFields.__struct_fields__)
_chat = msgspec.json.Decoder(ChatFields)
_object = msgspec.json.Decoder(dict[str, Raw])


def decode_chat(body: bytes) -> Chat:
    """The whole request; raises InvalidRequest naming the field, Unsupported for what nothing else could do."""
    fields = read_body(_chat, body)
    return Chat(
        messages=read_messages(fields.messages),
        tools=_tools(fields),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=fields.parallel_tool_calls,
        format=read_format(fields.response_format),
        sampling=sampling(
            fields,
            max_tokens=fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens,
            logprobs=fields.logprobs or False,
            top_logprobs=fields.top_logprobs,
        ),
        thinking=_thinking(fields),
        user=fields.user or "",
        extra=_extra(fields, body),
    )


def sampling(fields: SamplingFields, *, max_tokens: int | None, logprobs: bool, top_logprobs: int | None) -> Sampling:
    """What chat and completions say alike."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    repeat = fields.repeat_penalty if fields.repetition_penalty is None else fields.repetition_penalty
    return Sampling(
        max_tokens=max_tokens,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        min_p=fields.min_p,
        seed=fields.seed,
        stop=stop,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        repeat_penalty=repeat,
        n=fields.n,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
    )


def leftovers(body: bytes, known: frozenset[str]) -> tuple[tuple[str, Json], ...]:
    """The fields that nobody here knows, as they came; a null says nothing and is left out."""
    fields = _object.decode(body)
    if not fields.keys() - known:
        return ()
    return tuple((name, bytes(raw)) for name, raw in fields.items() if name not in known and bytes(raw) != b"null")


def _extra(fields: ChatFields, body: bytes) -> tuple[tuple[str, Json], ...]:
    extra = leftovers(body, _KNOWN)
    template = fields.chat_template_kwargs
    if template and template.keys() - _TEMPLATE:
        extra += (("chat_template_kwargs", msgspec.json.encode(template)),)
    if not any(name == "modalities" for name, _ in extra):
        return extra
    return tuple((name, raw) for name, raw in extra if name != "modalities" or raw.replace(b" ", b"") != b'["text"]')


def _carried(raw: Raw) -> Json:
    return b"" if raw == NULL else bytes(raw)


def _tools(fields: ChatFields) -> tuple[Tool, ...]:
    functions: list[FunctionObject] = []
    for i, tool in enumerate(fields.tools or ()):
        if tool.type != "function" or tool.function is None:
            where = f"tools[{i}]"
            if tool.type == "function":
                raise InvalidRequest(f"`{where}.function` is missing: it is required.", param=f"{where}.function")
            raise Unsupported(f"`{where}` is of type `{tool.type}`: only functions can be translated.", param=where)
        functions.append(tool.function)
    functions.extend(fields.functions or ())
    return tuple(Tool(f.name, f.description or "", _carried(f.parameters), f.strict) for f in functions)


def _tool_choice(fields: ChatFields) -> ToolChoice | None:
    choice: Any = fields.tool_choice if fields.tool_choice is not None else fields.function_call
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            raise InvalidRequest(
                f"`tool_choice` is `{choice}`: it must be auto, none, required or a function.", param="tool_choice"
            )
        return ToolChoice(choice)
    named = choice if isinstance(choice, NamedFunction) else choice.function
    if named is None:
        raise Unsupported(f"`tool_choice` of type `{choice.type}` cannot be translated.", param="tool_choice")
    return ToolChoice("function", named.name)


def read_format(sent: ResponseFormat | None) -> Format | None:
    """The form asked of the answer; plain text is none."""
    if sent is None or sent.type == "text":
        return None
    if sent.type == "json_object":
        return Format(schema=_carried(sent.schema))
    if sent.type != "json_schema":
        raise Unsupported(f"`response_format` of type `{sent.type}` cannot be translated.", param="response_format")
    schema = sent.json_schema
    if schema is None or not _carried(schema.schema if schema.schema != NULL else sent.schema):
        param = "response_format.json_schema"
        raise InvalidRequest(f"`{param}.schema` is missing: it is required.", param=param)
    return Format(
        schema=_carried(schema.schema if schema.schema != NULL else sent.schema),
        name=schema.name or "",
        strict=schema.strict,
        description=schema.description or "",
    )


def _thinking(fields: ChatFields) -> Thinking | None:
    reasoning, template, think = fields.reasoning or Reasoning(), fields.chat_template_kwargs or {}, fields.think
    told = (fields.reasoning_effort, reasoning.effort, template.get("reasoning_effort"), think)
    effort = next((word for word in told if isinstance(word, str)), None)
    budget = fields.thinking_budget_tokens if reasoning.max_tokens is None else reasoning.max_tokens
    switches = tuple(s for s in (reasoning.enabled, template.get("enable_thinking"), think) if isinstance(s, bool))
    if effort is not None and effort not in EFFORTS:
        raise InvalidRequest(
            f"`reasoning_effort` is `{effort}`: it must be one of {', '.join(EFFORTS)}.", param="reasoning_effort"
        )
    if effort is None and budget is None and not switches:
        return None
    if effort == "none" or False in switches:
        return Thinking(enabled=False)
    return Thinking(effort=EFFORTS.get(effort or "", ""), budget=budget)
