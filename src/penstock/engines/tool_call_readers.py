"""Readers that bring about what a request says about tool calls where its server cannot."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import msgspec

from penstock.domain.response import Chunk, ToolDelta
from penstock.engines.base import ResponseReader
from penstock.engines.json_fields import DECODE_ERRORS, as_object


class FirstCallReader:
    """Reader that keeps the first tool call of each choice."""

    def __init__(self, reader: ResponseReader) -> None:
        self._reader = reader
        self._first: dict[int, int] = {}

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks that `data` completes, without further tool calls."""
        return map(self._keep_first, self._reader.feed(data))

    def close(self, is_delimited: bool = False) -> Iterable[Chunk]:
        """Return the remaining chunks, without further tool calls."""
        return map(self._keep_first, self._reader.close(is_delimited))

    def _keep_first(self, chunk: Chunk) -> Chunk:
        if not chunk.tool_calls:
            return chunk
        first = self._first.setdefault(chunk.choice, chunk.tool_calls[0].index)
        return replace(chunk, tool_calls=tuple(delta for delta in chunk.tool_calls if delta.index == first))


class ForcedCallReader:
    """Reader of a response whose text is a tool call, `{"name": …, "arguments": {…}}`, as its schema demands.

    The text is held until it ends. Text that is no such call, because it was cut, stays text.
    """

    def __init__(self, reader: ResponseReader) -> None:
        self._reader = reader
        self._text = ""
        self._has_call = False

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks that `data` completes, without text."""
        return self._convert(self._reader.feed(data))

    def close(self, is_delimited: bool = False) -> Iterable[Chunk]:
        """Return the remaining chunks, with the tool call if it has not been sent."""
        yield from self._convert(self._reader.close(is_delimited))
        if self._text:
            yield self._release_text(Chunk())

    def _convert(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self._text += chunk.text
            self._has_call = self._has_call or bool(chunk.tool_calls)
            held = replace(chunk, text="")
            if chunk.finish:
                yield self._release_text(held)
            elif held != Chunk():
                yield held

    def _release_text(self, chunk: Chunk) -> Chunk:
        """Add the text that was held to a chunk, as a tool call if it is one."""
        text, self._text = self._text, ""
        if self._has_call or not text.strip():
            return chunk
        delta = _parse_call(text)
        if delta is None:
            return replace(chunk, text=text)
        return replace(chunk, tool_calls=(delta,), finish="tool_calls" if chunk.finish == "stop" else chunk.finish)


def _parse_call(text: str) -> ToolDelta | None:
    try:
        call = as_object(msgspec.json.decode(text))
    except DECODE_ERRORS:
        return None
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return ToolDelta(0, name=name, arguments=msgspec.json.encode(arguments).decode())
