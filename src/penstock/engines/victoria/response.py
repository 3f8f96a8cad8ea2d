"""Responses of Victoria: the JSON of `/run` and `/plan`, and the events of `/stream`.

The events are `start`, `step`, `progress`, `chunk`, `error` and `end`. Their fields differ between versions, so text is
searched under all names in use, and unknown events are ignored.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from penstock.domain.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.response import Chunk
from penstock.engines.json_fields import DECODE_ERRORS, as_object

TITLE = "Victoria"
MAX_EVENT = 16 << 20  # bytes
MAX_BODY = 64 << 20  # bytes

_SUCCESS_STATUSES = frozenset({"success", "ok", "completed", "complete", "done", "finished", ""})
OUTPUT_FIELDS = ("output", "result", "response")
_CHUNK_FIELDS = ("content", "text", "chunk", "delta", "token", "data", "message", *OUTPUT_FIELDS)
_STEP_FIELDS = ("message", "content", "text", "title", "description", "thought", "stage", "action", "step", "data")
ERROR_FIELDS = ("error", "message", "detail", "output", "data")
_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


def find_text(value: object, names: Iterable[str]) -> str:
    """Return `value` if it is text, else the first text under one of `names`, at any depth."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for name in names:
            if isinstance(member := value.get(name), str | dict) and (text := find_text(member, names)):
                return text
    return ""


class VictoriaReader:
    """Reader of one response, a stream or a JSON body; the first byte decides which.

    `question_is_text`: when Victoria asks for clarification, its questions are the response's text, else a step.
    """

    def __init__(self, question_is_text: bool) -> None:
        self._question_is_text = question_is_text
        self._body_parts: list[bytes] | None = None  # of a JSON body, None before or without one
        self._buffered_bytes = 0  # in `_body_parts` or `_data_lines`
        self._is_event_stream = False  # a first line was read
        self._line = b""  # the incomplete line
        self._event_name = ""
        self._data_lines: list[bytes] = []  # of the incomplete event
        self._has_text = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Return the chunks that `data` completes."""
        if self._body_parts is None and not self._is_event_stream:
            data, self._line = (self._line + data).lstrip(), b""
            if data[:1] in (b"{", b"["):
                self._body_parts = []
        if self._body_parts is not None:
            self._count_buffered(len(data), MAX_BODY)
            self._body_parts.append(data)
            return
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        for line in lines:
            yield from self._read_line(line.removesuffix(b"\r"))
        if len(self._line) > MAX_EVENT:
            raise UpstreamGarbage(f"{TITLE} sent an event of more than {MAX_EVENT >> 20} MiB. Look at its log.")

    def close(self, is_delimited: bool = False) -> Iterator[Chunk]:
        """Return the remaining chunks. Raises UpstreamCut if the end is missing."""
        if self._body_parts is not None:
            yield from self._read_result(decode_json(b"".join(self._body_parts)))
            return
        try:
            yield from self._read_line(self._line.removesuffix(b"\r"))
            yield from self._read_line(b"")
        except UpstreamGarbage:
            self._ended = False  # the rest is an incomplete event
        if not self._ended:
            raise UpstreamCut(f"{TITLE} ended the response before it was complete. Try again.")

    def _count_buffered(self, added: int, limit: int) -> None:
        self._buffered_bytes += added
        if self._buffered_bytes > limit:
            raise UpstreamGarbage(f"{TITLE} sent more than {limit >> 20} MiB at once. Look at its log.")

    def _read_line(self, line: bytes) -> Iterable[Chunk]:
        if not line:
            data, name = b"\n".join(self._data_lines), self._event_name
            self._data_lines, self._event_name, self._buffered_bytes = [], "", 0
            return self._read_event(name, data) if data or name else ()
        field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._count_buffered(len(value), MAX_EVENT)
            self._data_lines.append(value)
        elif field == b"event":
            self._event_name = value.decode(errors="replace").strip()
        elif field not in (b"", b"id", b"retry"):
            raise UpstreamGarbage(
                f"{TITLE} sent a line that is not of an event stream: {line[:80]!r}. Check its address."
            )
        self._is_event_stream = True
        return ()

    def _read_event(self, name: str, data: bytes) -> Iterable[Chunk]:
        if self._ended:
            return ()
        if data.strip() == b"[DONE]":
            return self._read_end(None)
        value = decode_json(data) if data.lstrip()[:1] in (b"{", b"[", b'"') else data.decode(errors="replace")
        fields = as_object(value)
        if name in ("", "message"):
            name = str(fields.get("type") or fields.get("event") or "chunk")
        name = name.lower()
        if name == "error":
            raise UpstreamError(f"{TITLE} failed: {find_text(value, ERROR_FIELDS) or 'It gave no reason.'}")
        if name == "end":
            return self._read_end(value)
        if fields.get("status") == "needs_clarification":
            return self._read_result(fields)
        if name == "chunk" and (text := find_text(value, _CHUNK_FIELDS)):
            self._has_text = True
            return (Chunk(text),)
        if name in ("step", "progress") and (text := find_text(value, _STEP_FIELDS)):
            return (Chunk(step=text),)
        return ()

    def _read_end(self, value: object) -> Iterable[Chunk]:
        """Read the end of a stream; older versions send the complete response there."""
        self._ended = True
        if isinstance(value, dict) and (any(name in value for name in OUTPUT_FIELDS) or not _is_success(value)):
            return self._read_result(value)
        return (Chunk(finish="stop"),)

    def _read_result(self, value: object) -> Iterator[Chunk]:
        """Read a response in the format of `/run` or `/plan`."""
        self._ended = True
        if not isinstance(value, dict):
            raise UpstreamGarbage(f"{TITLE} sent a response that is not a JSON object. Check its address.")
        if value.get("status") == "needs_clarification":
            text = format_clarification(value)
            yield Chunk(text, finish="stop") if self._question_is_text else Chunk(step=text, finish="stop")
            return
        if not _is_success(value):
            reason = find_text(value, ERROR_FIELDS) or f"its status is {value.get('status')!r}."
            raise UpstreamError(f"{TITLE} failed: {reason}")
        outputs = [value[name] for name in (*OUTPUT_FIELDS, "plan") if value.get(name) is not None]
        if not outputs:
            raise UpstreamGarbage(f"{TITLE} sent a response without `output`. Check its address.")
        text = next(filter(None, map(_format_value, outputs)), "")
        yield Chunk("" if self._has_text else text, finish="stop")


def format_clarification(value: dict[str, Any]) -> str:
    """Format a request for clarification as text: the questions, and the goal as understood."""
    items = value.get("clarification_questions")
    questions = list(filter(None, map(_format_value, items if isinstance(items, list) else [items])))
    goal = find_text(value, ("suggested_restatement", "original_goal"))
    is_russian = bool(_CYRILLIC.search(goal + "".join(questions)))
    lines = ["Нужно уточнение:" if is_russian else "More needs to be known first:"]
    lines += [f"{number}. {question}" for number, question in enumerate(questions, 1)]
    if goal:
        lines.append(f"{'Цель понята так' if is_russian else 'The goal as understood'}: {goal}")
    return "\n".join(lines)


def _is_success(value: dict[str, Any]) -> bool:
    status = value.get("status")
    return status is None or status is True or (isinstance(status, str) and status.lower() in _SUCCESS_STATUSES)


def _format_value(value: object) -> str:
    """Format text unchanged, a list as numbered lines, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(
            f"{number}. {find_text(item, _STEP_FIELDS) or _format_value(item)}" for number, item in enumerate(value, 1)
        )
    return "" if value is None else msgspec.json.encode(value).decode()


def decode_json(body: bytes) -> object:
    """Decode a body. Raises UpstreamCut if it ends too early, UpstreamGarbage if it is not JSON."""
    if not body.strip():
        raise UpstreamCut(f"{TITLE} sent an empty response. Try again; if it happens again, look at its log.")
    try:
        return msgspec.json.decode(body)
    except DECODE_ERRORS as error:
        if str(error) == "Input data was truncated":
            raise UpstreamCut(f"{TITLE} ended the response before it was complete. Try again.") from None
        raise UpstreamGarbage(f"{TITLE} sent a response that is not valid: {error}. Look at its log.") from None
