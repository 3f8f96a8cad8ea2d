"""Structs of requests to OpenAI's Responses API: the fields that a model can use."""

from typing import Annotated, Any, Literal

import msgspec

from penstock.dialects.json_body import PositiveInt


class Audio(msgspec.Struct):
    data: str
    format: str


class Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: Audio | None = None


class ItemKind(msgspec.Struct):
    """Fields of an item that select its struct."""

    type: str | None = None
    role: str | None = None


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class FunctionCall(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CustomToolCall(msgspec.Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class ShellCall(msgspec.Struct):
    action: dict[str, Any]
    call_id: str | None = None
    id: str | None = None


class ToolOutput(msgspec.Struct):
    """Result of a call. The local shell's has only an `id`."""

    output: str | list[Part]
    call_id: str | None = None
    id: str | None = None


class ReasoningText(msgspec.Struct):
    text: str


class Reasoning(msgspec.Struct):
    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class CustomFormat(msgspec.Struct):
    """Format of a custom tool's input: text, or a grammar."""

    type: str = "text"
    syntax: str = ""
    definition: str = ""


class Tool(msgspec.Struct):
    """A tool. `tools` are those of a namespace."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None
    format: CustomFormat | None = None
    tools: "list[Tool] | None" = None


class AllowedTool(msgspec.Struct):
    type: str
    name: str = ""
    namespace: str | None = None


class ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[AllowedTool] | None = None


class Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None
    description: str | None = None


class TextConfig(msgspec.Struct):
    format: Format | None = None
    verbosity: str | None = None


class ReasoningConfig(msgspec.Struct):
    """Settings for reasoning. With `summary` the reasoning is sent as its summary."""

    effort: str | None = None
    summary: str | None = None


class Request(msgspec.Struct):
    model: str
    input: str | list[msgspec.Raw]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: PositiveInt | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    truncation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    # extensions of servers of open models
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
