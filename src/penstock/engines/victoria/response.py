"""Reads what Victoria says: the JSON of `/run` and `/plan`, and the events of `/stream`.

The events are `start`, `step`, `progress`, `chunk`, `error` and `end`; what is in them differs between versions, so
their words are looked for under the names in use, and a name that is not known is passed over.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from penstock.domain.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.response import Chunk

TITLE = "Victoria"
MAX_EVENT = 16 << 20  # bytes
MAX_WHOLE = 64 << 20  # bytes

_FINE = frozenset({"success", "ok", "completed", "complete", "done", "finished", ""})
OUTPUT = ("output", "result", "response")
_PIECE = ("content", "text", "chunk", "delta", "token", "data", "message", *OUTPUT)
_STEP = ("message", "content", "text", "title", "description", "thought", "stage", "action", "step", "data")
ERROR = ("error", "message", "detail", "output", "data")
_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


def said(value: object, names: Iterable[str]) -> str:
    """The words in `value`: itself when it is text, else the first text under one of `names`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for name in names:
            if isinstance(found := value.get(name), str | dict) and (words := said(found, names)):
                return words
    return ""


class Reader:
    """Reads one answer, stream or not: its first byte tells which. `ask_in_text`: questions back are the answer."""

    def __init__(self, ask_in_text: bool) -> None:
        self._ask_in_text = ask_in_text
        self._whole: list[bytes] | None = None  # pieces of a body that is one JSON value
        self._size = 0  # bytes held in `_whole` or `_data`
        self._begun = False  # a stream, as its first line has shown
        self._line = b""  # what has come of a line
        self._name = ""
        self._data: list[bytes] = []  # data lines of an event that has not ended
        self._answered = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that these bytes complete."""
        if self._whole is None and not self._begun:
            data, self._line = (self._line + data).lstrip(), b""
            if data[:1] in (b"{", b"["):
                self._whole = []
        if self._whole is not None:
            self._grow(len(data), MAX_WHOLE)
            self._whole.append(data)
            return
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        for line in lines:
            yield from self._take(line.removesuffix(b"\r"))
        if len(self._line) > MAX_EVENT:
            raise UpstreamGarbage(f"{TITLE} sent an event of more than {MAX_EVENT >> 20} MiB.")

    def close(self) -> Iterator[Chunk]:
        """What was held back; UpstreamCut when no end was told."""
        if self._whole is not None:
            yield from self._run(parse(b"".join(self._whole)))
            return
        try:
            yield from self._take(self._line.removesuffix(b"\r"))
            yield from self._take(b"")
        except UpstreamGarbage:
            self._ended = False  # what is left of an event that was cut
        if not self._ended:
            raise UpstreamCut(f"{TITLE} ended the answer before it was whole: try again.")

    def _grow(self, by: int, limit: int) -> None:
        self._size += by
        if self._size > limit:
            raise UpstreamGarbage(f"{TITLE} sent more than {limit >> 20} MiB at once.")

    def _take(self, line: bytes) -> Iterable[Chunk]:
        if not line:
            data, name = b"\n".join(self._data), self._name
            self._data, self._name, self._size = [], "", 0
            return self._event(name, data) if data or name else ()
        field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._grow(len(value), MAX_EVENT)
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace").strip()
        elif field not in (b"", b"id", b"retry"):
            raise UpstreamGarbage(f"{TITLE} sent something that is no event stream: {line[:80]!r}.")
        self._begun = True
        return ()

    def _event(self, name: str, data: bytes) -> Iterable[Chunk]:
        if self._ended:
            return ()
        if data.strip() == b"[DONE]":
            return self._end(None)
        value = parse(data) if data.lstrip()[:1] in (b"{", b"[", b'"') else data.decode(errors="replace")
        told = value if isinstance(value, dict) else {}
        name = (name if name not in ("", "message") else str(told.get("type") or told.get("event") or "chunk")).lower()
        if name == "error":
            raise UpstreamError(f"{TITLE} failed: {said(value, ERROR) or 'it did not say why'}")
        if name == "end":
            return self._end(value)
        if told.get("status") == "needs_clarification":
            return self._run(told)
        if name == "chunk" and (text := said(value, _PIECE)):
            self._answered = True
            return (Chunk(text),)
        if name in ("step", "progress") and (words := said(value, _STEP)):
            return (Chunk(step=words),)
        return ()

    def _end(self, value: object) -> Iterable[Chunk]:
        """The end of a stream; older versions put the whole answer there."""
        self._ended = True
        if isinstance(value, dict) and (any(name in value for name in OUTPUT) or not _fine(value)):
            return self._run(value)
        return (Chunk(finish="stop"),)

    def _run(self, value: object) -> Iterator[Chunk]:
        """The answer in the form of `/run` or `/plan`."""
        self._ended = True
        if not isinstance(value, dict):
            raise UpstreamGarbage(f"{TITLE} sent an answer that is no object.")
        if value.get("status") == "needs_clarification":
            words = clarification(value)
            yield Chunk(words, finish="stop") if self._ask_in_text else Chunk(step=words, finish="stop")
            return
        if not _fine(value):
            why = said(value, ERROR) or f"its status is {value.get('status')!r}"
            raise UpstreamError(f"{TITLE} failed: {why}")
        given = [value[name] for name in (*OUTPUT, "plan") if value.get(name) is not None]
        if not given:
            raise UpstreamGarbage(f"{TITLE} sent an answer without `output`.")
        text = next((words for words in map(_words, given) if words), "")
        yield Chunk("" if self._answered else text, finish="stop")


def clarification(value: dict[str, Any]) -> str:
    """What Victoria asks back, in words: its questions, and the goal as it understands it."""
    asked = value.get("clarification_questions")
    questions = [words for words in map(_words, asked if isinstance(asked, list) else [asked]) if words]
    goal = said(value, ("suggested_restatement", "original_goal"))
    russian = bool(_CYRILLIC.search(goal + "".join(questions)))
    lines = ["Нужно уточнение:" if russian else "More needs to be known first:"]
    lines += [f"{number}. {question}" for number, question in enumerate(questions, 1)]
    if goal:
        lines.append(f"{'Цель понята так' if russian else 'The goal as understood'}: {goal}")
    return "\n".join(lines)


def _fine(value: dict[str, Any]) -> bool:
    status = value.get("status")
    return status is None or status is True or (isinstance(status, str) and status.lower() in _FINE)


def _words(value: object) -> str:
    """Text as it is; a list as numbered lines; anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(f"{number}. {said(item, _STEP) or _words(item)}" for number, item in enumerate(value, 1))
    return "" if value is None else msgspec.json.encode(value).decode()


def parse(body: bytes) -> object:
    """The JSON in a body; raises UpstreamCut where it ends too early, UpstreamGarbage where it is none."""
    if not body.strip():
        raise UpstreamCut(f"{TITLE} sent an empty answer: try again, and look at its log if it stays so.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if str(error) == "Input data was truncated":
            raise UpstreamCut(f"{TITLE} ended the answer before it was whole: try again.") from None
        raise UpstreamGarbage(f"{TITLE} sent an answer that cannot be read: {error}.") from None
