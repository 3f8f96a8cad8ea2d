"""Requests in OpenAI's format, read as far as a simulated server needs."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from penstock.sim.generated_text import GenerationRequest, Tool, tokens_of
from penstock.sim.options import SimModel

IMAGE_TOKENS = 256
_MESSAGE_TOKENS = 4


class BrokenJsonError(ValueError):
    """The body is not JSON; `position` is the byte of the error, `cut` means that the body ends too early."""

    def __init__(self, position: int, *, cut: bool) -> None:
        super().__init__(f"broken at byte {position}")
        self.position = position
        self.cut = cut


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation: its length in tokens, the last message, the tool results since, and the number of images.

    `answer_start` is the assistant's text if the last message is its own.
    """

    tokens: int = 0
    message: str = ""
    tool_result: str | None = None
    images: int = 0
    answer_start: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """Response options: streamed, with usage, number of choices, alternatives for each token.

    `logprobs` is None if they were not requested.
    """

    stream: bool = False
    include_usage: bool = False
    n: int = 1
    logprobs: int | None = None


def parse_json(body: bytes) -> Any:
    """Parse a JSON body. Raises BrokenJsonError."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        words = str(error)
        cut = "truncated" in words
        digits = words.rpartition("byte ")[2].rstrip(")")
        raise BrokenJsonError(int(digits) if digits.isdigit() and not cut else len(body), cut=cut) from None
    except UnicodeDecodeError as error:
        raise BrokenJsonError(error.start, cut=False) from None
    except RecursionError:
        raise BrokenJsonError(len(body), cut=False) from None


def text_of(content: Any) -> tuple[str, int]:
    """Return (text, number of images) of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        return "", 0
    parts = [part for part in content if isinstance(part, dict)]
    text = "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    return text, sum("image" in str(part.get("type")) for part in parts)


def read_prompt(messages: list[Any]) -> Prompt:
    tokens, images, message, result, answer_start = 3, 0, "", None, ""
    for entry in messages:
        if not isinstance(entry, dict):
            continue
        text, pictures = text_of(entry.get("content"))
        tokens += _MESSAGE_TOKENS + len(tokens_of(text)) + IMAGE_TOKENS * pictures
        images += pictures
        answer_start = text if entry.get("role") == "assistant" and not entry.get("tool_calls") else ""
        if entry.get("role") == "user":
            message, result = text, None
        elif entry.get("role") == "tool":
            result = text
    return Prompt(tokens, message, result, images, answer_start)


def read_tools(body: dict[str, Any]) -> tuple[Tool, ...]:
    """Return the tools that may be called; a required one comes first."""
    offered = body.get("tools")
    choice = body.get("tool_choice")
    if not isinstance(offered, list) or choice == "none":
        return ()
    functions = [
        tool["function"] for tool in offered if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    tools = [Tool(str(function.get("name")), function.get("parameters") or {}) for function in functions]
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        tools = [tool for tool in tools if tool.name == choice["function"].get("name")]
    return tuple(tools)


def read_schema(body: dict[str, Any]) -> Any:
    """Return None for free text, True for any object, else the JSON Schema."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema" and isinstance(wanted.get("json_schema"), dict):
        return wanted["json_schema"].get("schema") or True
    return True if wanted.get("type") in {"json_object", "json_schema"} else None


def read_stop(stop: Any) -> tuple[str, ...]:
    if isinstance(stop, str):
        return (stop,)
    return tuple(word for word in stop if isinstance(word, str)) if isinstance(stop, list) else ()


def read_wish(body: dict[str, Any]) -> Wish:
    options = body.get("stream_options")
    logprobs = body.get("logprobs")
    alternatives: int | None = None
    if logprobs is True:
        alternatives = _parse_count(body.get("top_logprobs")) or 0
    elif isinstance(logprobs, int) and not isinstance(logprobs, bool):
        alternatives = logprobs
    return Wish(
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        n=max(1, _parse_count(body.get("n")) or 1),
        logprobs=alternatives,
    )


def read_limit(body: dict[str, Any]) -> int | None:
    """Return the limit of tokens in the request, or None."""
    limit = _parse_count(body.get("max_completion_tokens"))
    return _parse_count(body.get("max_tokens")) if limit is None else limit


def read_ask(body: dict[str, Any], model: SimModel, prompt: Prompt) -> GenerationRequest:
    """Read a chat request."""
    limit = read_limit(body)
    limit = None if limit is None or limit < 0 else limit
    room = max(1, model.context_length - prompt.tokens)
    forced = (limit or room) if body.get("ignore_eos") is True else _parse_count(body.get("min_tokens")) or 0
    template = body.get("chat_template_kwargs")
    wants_thought = not (isinstance(template, dict) and template.get("enable_thinking") is False)
    return GenerationRequest(
        model=model.name,
        message=prompt.message,
        prompt_tokens=prompt.tokens,
        tool_result=prompt.tool_result,
        tools=read_tools(body) if model.has_capability("tools") else (),
        schema=read_schema(body),
        thinking=wants_thought and model.has_capability("thinking"),
        max_tokens=room if limit is None else min(limit, room),
        min_tokens=min(forced, room),
        stop=read_stop(body.get("stop")),
        answer_start=prompt.answer_start,
    )


def read_completion(body: dict[str, Any], model: SimModel, text: str) -> GenerationRequest:
    """Read a completion request; the prompt is the message."""
    return replace(read_ask(body, model, Prompt(max(1, len(tokens_of(text))), text)), raw=True)


def read_prompts(prompt: Any) -> list[str]:
    """Read the prompts of a completion request: a text, a list of texts, or token ids (used as text)."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(isinstance(entry, str) for entry in prompt):
        return list(prompt)
    if isinstance(prompt, list) and prompt:
        rows = prompt if isinstance(prompt[0], list) else [prompt]
        return [" ".join(map(str, row)) for row in rows]
    return []


def _parse_count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
