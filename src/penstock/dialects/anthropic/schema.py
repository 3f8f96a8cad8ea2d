"""Structs of Anthropic's Messages requests: the fields that a model can use."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from penstock.dialects.json_body import PositiveInt


class Base64Source(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class UrlSource(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class UploadedFile(msgspec.Struct, tag_field="type", tag="file"):
    file_id: str


class PlainText(msgspec.Struct, tag_field="type", tag="text"):
    data: str


class Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class Image(msgspec.Struct, tag_field="type", tag="image"):
    source: Base64Source | UrlSource | UploadedFile


class InlineContent(msgspec.Struct, tag_field="type", tag="content"):
    content: str | list[Text | Image]


class Document(msgspec.Struct, tag_field="type", tag="document"):
    source: Base64Source | UrlSource | UploadedFile | PlainText | InlineContent
    title: str | None = None
    context: str | None = None


class SearchResult(msgspec.Struct, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[Text]


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class RedactedThinking(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[Text | Image | Document | SearchResult] | None = None
    is_error: bool | None = None


InputBlock: TypeAlias = Text | Image | Document | SearchResult
Block: TypeAlias = Text | Image | Document | SearchResult | Thinking | RedactedThinking | ToolUse | ToolResult


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(msgspec.Struct):
    """Settings for thinking. `display` "omitted" leaves it out of the response."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: Format | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class Request(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: PositiveInt | None = None
    system: str | list[Text] | None = None
    stream: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: Metadata | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
