"""Complete responses combined from chunks."""

from penstock.domain.content import ToolCall
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response


def test_no_chunks_are_an_empty_response() -> None:
    assert assemble_response([]) == ModelResponse()


def test_text_thinking_and_the_end_are_collected() -> None:
    logprob = Logprob("b", -0.5)
    chunks = [
        Chunk(thinking="hm", thinking_signature="s1"),
        Chunk(text="a"),
        Chunk(text="b", logprobs=(logprob,)),
        Chunk(finish="stop", stop_sequence="END", context=(1, 2), thinking_signature="s2"),
        Chunk(usage=Usage(3, 2)),
    ]
    choice = Choice(
        text="ab",
        thinking="hm",
        finish="stop",
        logprobs=(logprob,),
        stop_sequence="END",
        context=(1, 2),
        thinking_signature="s2",
    )
    assert assemble_response(chunks) == ModelResponse((choice,), Usage(3, 2))


def test_interleaved_fragments_of_tool_calls_are_joined_by_index() -> None:
    chunks = [
        Chunk(tool_calls=(ToolDelta(1, "id1", "g", '{"y"'),)),
        Chunk(tool_calls=(ToolDelta(0, "id0", "f", "{"), ToolDelta(1, arguments=":2}"))),
        Chunk(tool_calls=(ToolDelta(0, arguments="}"),), finish="tool_calls"),
    ]
    calls = (ToolCall("id0", "f", "{}"), ToolCall("id1", "g", '{"y":2}'))
    assert assemble_response(chunks) == ModelResponse((Choice(tool_calls=calls, finish="tool_calls"),))


def test_choices_are_sorted_by_index() -> None:
    chunks = [Chunk("b", choice=1), Chunk("a", choice=0), Chunk("c", choice=1, finish="length")]
    assert assemble_response(chunks).choices == (Choice("a"), Choice("bc", finish="length"))


def test_vectors_and_steps_are_collected_in_order() -> None:
    chunks = [Chunk(step="read"), Chunk(vectors=((1.0,), "AACAPw==")), Chunk(step="write", vectors=((2.0,),))]
    response = assemble_response(chunks)
    assert (response.vectors, response.steps) == (((1.0,), "AACAPw==", (2.0,)), ("read", "write"))
