"""Text of a simulated model, in tokens: an answer that quotes its caller, a tool call, or JSON for a schema."""

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.sim.json_schema import example_of
from penstock.sim.options import SimOptions

_TOKEN = re.compile(r"\s?\w{1,5}|\s?[^\w\s]|\s")
_CYRILLIC = re.compile(r"[а-яё]", re.IGNORECASE)
_QUOTED = 160

_ENGLISH = (
    "You said: “{message}”. I am {model}, played by a simulated server: I hear you, but I do not think. "
    "My words arrive at the pace of a real model, so you can watch how a busy server feels. What shall we try next?"
)
_RUSSIAN = (
    "Вы написали: «{message}». Я — {model} на симулированном сервере: я вас слышу, но не думаю. "
    "Слова приходят с той же скоростью, что и у настоящей модели. Что попробуем дальше?"
)
_TOOL_ENGLISH = "The tool answered: “{message}”. That is all I, {model}, wanted to know."
_TOOL_RUSSIAN = "Инструмент ответил: «{message}». Это всё, что я, {model}, хотела узнать."
_THOUGHT_ENGLISH = "The user writes “{message}”. I will quote it back and keep it short."
_THOUGHT_RUSSIAN = "Пользователь пишет: «{message}». Процитирую и отвечу коротко."


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers; `parameters` is its JSON Schema."""

    name: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request to a model: the caller's last message and everything that shapes the answer.

    `schema` is None for free text, True for any JSON object, else a JSON Schema. `tool_result` is the result of a tool
    since the last message. Numbers are tokens. `answer_start` is the beginning of the answer, which is not repeated; in
    a `raw` prompt it follows the caller's text without a separator.
    """

    model: str
    message: str = ""
    prompt_tokens: int = 1
    tool_result: str | None = None
    tools: tuple[Tool, ...] = ()
    schema: Any = None
    thinking: bool = False
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    answer_start: str = ""
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` fit the tool's schema."""

    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the model, token by token. `finish` is stop or length; `stopped_by` the stop word that ended it."""

    thinking: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    call: Call | None = None
    finish: str = "stop"
    stopped_by: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def token_count(self) -> int:
        """Number of tokens generated, including thinking and the arguments of a call."""
        return (
            len(self.thinking) + len(self.tokens) + (len(tokens_of(str(self.call.arguments))) + 4 if self.call else 0)
        )


def tokens_of(text: str) -> list[str]:
    """Split a text into pieces of at most five letters; joined they are the text again."""
    return _TOKEN.findall(text)


def compose_answer(options: SimOptions, ask: GenerationRequest, encode: Callable[[Any], bytes]) -> Answer:
    """Compose the answer of the model; `encode` writes JSON in the server's own style."""
    if ask.tools and ask.tool_result is None:
        tool = ask.tools[0]
        return Answer(
            thinking=_generate_thinking(options, ask),
            call=Call(tool.name, example_of(tool.parameters, _choose_word(options))),
        )
    if ask.raw:
        ask = _split_raw_prompt(options, ask)
    thinking = () if ask.answer_start else _generate_thinking(options, ask)
    if ask.schema is not None:
        value = (
            {"answer": _choose_word(options)} if ask.schema is True else example_of(ask.schema, _choose_word(options))
        )
        pieces = tokens_of(encode(value).decode())
    else:
        pieces = _generate_text(options, ask)
    pieces, stopped_by = _cut_at_stop_word(pieces, ask.stop, keep=1 if options.prefix and ask.schema is None else 0)
    if ask.answer_start and (text := "".join(pieces)).startswith(ask.answer_start):
        pieces = tokens_of(text[len(ask.answer_start) :])
    if len(pieces) < ask.min_tokens:
        pieces = list(itertools.islice(itertools.cycle(pieces or [" …"]), ask.min_tokens))
    allowed = math.inf if ask.max_tokens is None else ask.max_tokens
    wanted = len(thinking) + len(pieces)
    if wanted < allowed or (wanted == allowed and not ask.min_tokens):
        return Answer(thinking, tuple(pieces), None, "stop", stopped_by)
    left = int(allowed)
    return Answer(thinking[:left], tuple(pieces[: max(0, left - len(thinking))]), None, "length")


def _generate_text(options: SimOptions, ask: GenerationRequest) -> list[str]:
    source = ask.message if ask.tool_result is None else ask.tool_result
    russian = bool(_CYRILLIC.search(ask.message or source))
    if options.text is not None:
        template = options.text
    elif ask.tool_result is not None:
        template = _TOOL_RUSSIAN if russian else _TOOL_ENGLISH
    else:
        template = _RUSSIAN if russian else _ENGLISH
    pieces = tokens_of(_fill_template(template, source, ask.model))
    return [options.prefix, *pieces] if options.prefix else pieces


def _split_raw_prompt(options: SimOptions, ask: GenerationRequest) -> GenerationRequest:
    """Split a raw prompt into the message and the beginning of its answer, if it ends with one.

    At least the first token of the answer must be there, since less may be a coincidence.
    """
    first = "".join(_generate_text(options, ask)[:1]).rstrip()
    at = ask.message.find(first) if first else -1
    while at >= 0:
        asked = replace(ask, message=ask.message[:at], answer_start=ask.message[at:])
        if "".join(_generate_text(options, asked)).startswith(asked.answer_start):
            return asked
        at = ask.message.find(first, at + 1)
    return ask


def _generate_thinking(options: SimOptions, ask: GenerationRequest) -> tuple[str, ...]:
    if not ask.thinking:
        return ()
    template = _THOUGHT_RUSSIAN if _CYRILLIC.search(ask.message) else _THOUGHT_ENGLISH
    pieces = tokens_of(_fill_template(template, ask.message, ask.model))
    return (options.prefix, *pieces) if options.prefix else tuple(pieces)


def _fill_template(template: str, message: str, model: str) -> str:
    quoted = " ".join(message.split())
    if len(quoted) > _QUOTED:
        quoted = quoted[: _QUOTED - 1].rstrip() + "…"
    return template.replace("{model}", model).replace("{message}", quoted)


def _choose_word(options: SimOptions) -> str:
    return options.prefix.strip() or "simulated"


def _cut_at_stop_word(pieces: list[str], stops: Sequence[str], *, keep: int) -> tuple[list[str], str | None]:
    """Return the pieces before the first stop word; the first `keep` of them are not searched."""
    spoken = "".join(pieces[keep:])
    found = [(at, stop) for stop in stops if stop and (at := spoken.find(stop)) >= 0]
    if not found:
        return pieces, None
    at, stop = min(found)
    return [*pieces[:keep], *tokens_of(spoken[:at])], stop


def unit_vector(text: str, size: int) -> list[float]:
    """Return a unit vector that depends on the text alone."""
    raw = b"".join(
        hashlib.blake2b(b"%d %b" % (block, text.encode()), digest_size=64).digest() for block in range(size // 32 + 1)
    )
    values = [int.from_bytes(raw[2 * at : 2 * at + 2], "big") / 32767.5 - 1 for at in range(size)]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [round(value / length, 8) for value in values]
