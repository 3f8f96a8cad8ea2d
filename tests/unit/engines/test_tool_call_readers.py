"""Readers that bring about what a request says about tool calls."""

import pytest

from penstock.domain.response import Chunk, ToolDelta, Usage
from penstock.engines.tool_call_readers import FirstCallReader, ForcedCallReader


class ScriptedReader:
    """Reader that returns the same chunks for any data."""

    def __init__(self, *chunks: Chunk, rest: tuple[Chunk, ...] = ()) -> None:
        self._chunks, self._rest = chunks, rest

    def feed(self, data: bytes) -> tuple[Chunk, ...]:
        return self._chunks

    def close(self, is_delimited: bool = False) -> tuple[Chunk, ...]:
        return self._rest


def read_all(reader: FirstCallReader | ForcedCallReader) -> list[Chunk]:
    return [*reader.feed(b""), *reader.close()]


def test_further_tool_calls_are_dropped():
    first, second = ToolDelta(0, "a", "f", "{"), ToolDelta(1, "b", "g", "{}")
    reader = FirstCallReader(
        ScriptedReader(
            Chunk("x"),
            Chunk(tool_calls=(first, second)),
            Chunk(tool_calls=(second,)),
            Chunk(tool_calls=(ToolDelta(0),)),
        )
    )
    assert [chunk.tool_calls for chunk in read_all(reader)] == [(), (first,), (), (ToolDelta(0),)]


def test_a_text_in_the_shape_of_a_call_becomes_one():
    usage = Usage(1, 2)
    reader = ForcedCallReader(
        ScriptedReader(
            Chunk(thinking="hm"),
            Chunk('{"name":"f",'),
            Chunk('"arguments":{"a":1}}'),
            Chunk(finish="stop", usage=usage),
        )
    )
    assert read_all(reader) == [
        Chunk(thinking="hm"),
        Chunk(tool_calls=(ToolDelta(0, name="f", arguments='{"a":1}'),), finish="tool_calls", usage=usage),
    ]


@pytest.mark.parametrize("text", ['{"name":"f","argum', "I cannot.", '{"name":1,"arguments":{}}', '{"name":"f"}'])
def test_a_text_that_is_no_call_stays_text(text: str):
    chunks = read_all(ForcedCallReader(ScriptedReader(Chunk(text), Chunk(finish="length"))))
    assert chunks == [Chunk(text, finish="length")]


def test_a_call_that_the_server_recognized_is_not_repeated():
    call = Chunk(tool_calls=(ToolDelta(0, "a", "f", "{}"),))
    reader = ForcedCallReader(ScriptedReader(call, Chunk('{"name":"f","arguments":{}}'), Chunk(finish="tool_calls")))
    assert read_all(reader) == [call, Chunk(finish="tool_calls")]


def test_text_is_released_at_the_end_of_a_response_without_a_finish_reason():
    assert read_all(ForcedCallReader(ScriptedReader(Chunk("a")))) == [Chunk("a")]
