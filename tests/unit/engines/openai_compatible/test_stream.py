"""Streams of OpenAI-compatible servers, however they are split and whatever their deviations."""

import contextlib
import itertools
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.content import ToolCall
from penstock.domain.errors import (
    ContextLengthExceeded,
    PenstockError,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamStatus,
)
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response
from penstock.engines.openai_compatible.response import parse_embeddings, parse_response, parse_token_count
from penstock.engines.openai_compatible.stream import MAX_EVENT, BodyReader, EventStreamReader

DONE = b"data: [DONE]\n\n"


def event(delta: dict | None = None, finish: str | None = None, index: int = 0, **fields: object) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish} | fields
    return (
        b"data: " + msgspec.json.encode({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"
    )


def text(content: str, **fields: object) -> bytes:
    return event({"content": content}, **fields)


END = event(finish="stop")
HELLO = text("Hel") + text("lo") + END + DONE


def read(*pieces: bytes) -> list[Chunk]:
    reader = EventStreamReader("vLLM")
    chunks: list[Chunk] = []
    for piece in pieces:
        chunks.extend(reader.feed(piece))
    chunks.extend(reader.close())
    return chunks


def answer(*pieces: bytes) -> ModelResponse:
    return assemble_response(read(*pieces))


def until_error(*pieces: bytes) -> tuple[list[Chunk], PenstockError]:
    """Return the chunks before the error, and the error."""
    reader = EventStreamReader("vLLM")
    found: list[Chunk] = []
    try:
        for piece in pieces:
            for chunk in reader.feed(piece):
                found.append(chunk)  # noqa: PERF402  # chunks before the error count
    except PenstockError as error:
        return found, error
    raise AssertionError("no error")


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


STREAMS = {
    "plain": HELLO,
    "crlf": HELLO.replace(b"\n", b"\r\n"),
    "comments": b": keepalive 0/17\n\n: keepalive\n\n" + HELLO.replace(b"\n\n", b"\n\n: beat\n\n"),
    "no space": HELLO.replace(b"data: ", b"data:"),
    "named events": HELLO.replace(b"data: ", b"event: message\nid: 3\nretry: 100\ndata: "),
    "no done": HELLO.removesuffix(DONE),
    "last line unfinished": HELLO.removesuffix(b"\n\n"),
    "last line unfinished and no done": HELLO.removesuffix(DONE + b"").removesuffix(b"\n\n"),
    "finish on the last text": text("Hel") + text("lo", finish="stop") + DONE,
    "nothing but whitespace before": b"\n\n\n" + HELLO,
    "nulls": event({"role": "assistant", "content": None}) + b"data: null\n\n" + HELLO,
    "several lines of data": HELLO.replace(b'"choices":', b'\ndata: "choices":'),
    "more after done": HELLO + text("ghost"),
    "spaces in the JSON": HELLO.replace(b'":', b'" : '),
    "null error": HELLO.replace(b'"id":"x"', b'"error":null,"id":"x"'),
    "no stream at all": b'{"choices":[{"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}',
    "no stream at all, indented": b'\n {\n "choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}\n',
    "empty finish reasons": HELLO.replace(b'"finish_reason":null', b'"finish_reason":""'),
    "finish reasons in words": HELLO.replace(b'"finish_reason":null', b'"finish_reason":"null"'),
    "no index": HELLO.replace(b'"index":0', b'"index":null'),
    "an index as text": HELLO.replace(b'"index":0', b'"index":"0"'),
    "unknown fields": HELLO.replace(b"data: ", b"x-trace: 1\nflavour\ndata: "),
    "a byte order mark": b"\xef\xbb\xbf" + HELLO,
    "a byte order mark before the body": (
        b'\xef\xbb\xbf{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}'
    ),
    "carriage returns": HELLO.replace(b"\n", b"\r"),
    "odd details": HELLO.replace(b'"index":0', b'"index":0,"logprobs":"none","stop_reason":{},"text":null'),
    "odd usage": HELLO.replace(b'"id":"x"', b'"usage":[],"timings":"fast","error":"","id":"x"'),
    "parts": text("Hel") + event({"content": [{"type": "text", "text": "lo"}]}, finish="stop") + DONE,
}


@pytest.mark.parametrize("name", STREAMS)
def test_deviations_are_accepted(name: str) -> None:
    assert answer(STREAMS[name]) == ModelResponse((Choice("Hello", finish="stop"),))


@given(name=st.sampled_from(sorted(STREAMS)), cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_gives_the_same_chunks(name: str, cuts: list[int]) -> None:
    data = STREAMS[name]
    assert read(*pieces(data, cuts)) == read(data)


@pytest.mark.parametrize("name", STREAMS)
def test_bytes_may_come_one_by_one(name: str) -> None:
    data = STREAMS[name]
    assert read(*(data[i : i + 1] for i in range(len(data)))) == read(data)


def test_one_complete_event_is_one_chunk_at_once() -> None:
    reader = EventStreamReader("vLLM")
    assert list(reader.feed(text("a"))) == [Chunk("a")]
    assert list(reader.feed(text("b"))) == [Chunk("b")]


def test_an_event_is_buffered_until_it_is_complete() -> None:
    reader = EventStreamReader("vLLM")
    data = text("a")
    assert list(reader.feed(data[:-1])) == []
    assert list(reader.feed(data[-1:])) == [Chunk("a")]


def test_several_events_at_once_are_read_in_order() -> None:
    assert [chunk.text for chunk in read(HELLO)] == ["Hel", "lo", ""]


@pytest.mark.parametrize("content", ["\n\n", "data: [DONE]", "🙂", "\u2028", "\r\n\r\n", '"}]}'])
def test_any_text_can_be_read(content: str) -> None:
    assert answer(text(content) + HELLO).choices[0].text == content + "Hello"


@pytest.mark.parametrize(
    ("delta", "thinking"),
    [
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning": "hm", "reasoning_content": "hm"}, "hm"),
        ({"reasoning_content": "hm", "content": None}, "hm"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, "hm"),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, "hm"),
        ({"reasoning": None, "content": ""}, ""),
    ],
)
def test_thinking_is_separate_from_the_text(delta: dict, thinking: str) -> None:
    found = answer(event(delta) + HELLO).choices[0]
    assert (found.thinking, found.text) == (thinking, "Hello")


def test_thinking_and_text_in_one_event_are_both_read() -> None:
    assert read(event({"reasoning": "hm", "content": "a"}) + END)[0] == Chunk("a", thinking="hm")


def test_tool_calls_are_put_together_from_fragments() -> None:
    data = (
        event({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}]})
        + event({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]})
        + event(
            {
                "tool_calls": [
                    {"index": 0, "function": {"arguments": '":'}},
                    {"index": 0, "function": {"arguments": "1}"}},
                ]
            }
        )
        + event({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}]})
        + event(finish="tool_calls")
        + DONE
    )
    assert answer(data) == ModelResponse(
        (Choice(tool_calls=(ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", "{}")), finish="tool_calls"),)
    )


@pytest.mark.parametrize(
    ("call", "delta"),
    [
        ({"id": "c", "function": {"name": "f", "arguments": "{}"}}, ToolDelta(0, "c", "f", "{}")),
        ({"index": None, "id": None, "function": {"name": "f", "arguments": None}}, ToolDelta(0, "", "f", "")),
        ({"index": 2, "function": {"name": "f", "arguments": {"a": 1}}}, ToolDelta(0, "", "f", '{"a":1}')),
        ({"index": 1}, ToolDelta(0)),
    ],
)
def test_incomplete_tool_calls_are_accepted(call: dict, delta: ToolDelta) -> None:
    assert read(event({"tool_calls": [call]}) + END)[0].tool_calls == (delta,)


def fragments(*calls: dict) -> bytes:
    return b"".join(event({"tool_calls": [call]}) for call in calls) + event(finish="tool_calls") + DONE


def call(name: str = "", arguments: str = "", **fields: object) -> dict:
    return {"function": ({"name": name} if name else {}) | {"arguments": arguments}} | fields


TWO_CALLS = {
    "no index": [call("f", '{"x":1}', id="a"), call("g", '{"y":2}', id="b")],
    "no index, in fragments": [
        *(call("f", '{"x"', id="a"), call(arguments=":1}")),
        *(call("g", '{"y"', id="b"), call(arguments=":2}")),
    ],
    "index 0": [call("f", '{"x":1}', id="a", index=0), call("g", '{"y":2}', id="b", index=0)],
    "index 0, interleaved": [
        *(call("f", '{"x"', id="a", index=0), call("g", '{"y"', id="b", index=0)),
        *(call(arguments=":1}", id="a", index=0), call(arguments=":2}", id="b", index=0)),
    ],
    "index 0, name before arguments": [
        *(call("f", id="a", index=0), call(arguments='{"x":1}', index=0)),
        *(call("g", id="b", index=0), call(arguments='{"y":2}', index=0)),
    ],
    "index null": [call("f", '{"x":1}', id="a", index=None), call("g", '{"y":2}', id="b", index=None)],
    "index from one": [call("f", '{"x":1}', id="a", index=1), call("g", '{"y":2}', id="b", index=2)],
    "a new id in each fragment": [
        *(call("f", '{"x"', id="a", index=0), call(arguments=":1}", id="r1", index=0)),
        *(call("g", '{"y"', id="b", index=1), call(arguments=":2}", id="r2", index=1)),
    ],
    "the name in each fragment": [
        *(call("f", '{"x"', id="a", index=0), call("f", ":1}", id="a", index=0), call("f", "", id="a", index=0)),
        *(call("g", '{"y"', id="b", index=1), call("g", ":2}", id="b", index=1)),
    ],
}


@pytest.mark.parametrize("name", TWO_CALLS)
def test_parallel_tool_calls_stay_apart_however_they_are_numbered(name: str) -> None:
    assert answer(fragments(*TWO_CALLS[name])).choices[0] == Choice(
        tool_calls=(ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}')), finish="tool_calls"
    )


def test_parallel_tool_calls_in_one_event_stay_apart() -> None:
    both = [call("f", '{"x":1}', id="a", index=0), call("g", '{"y":2}', id="b", index=0)]
    data = event({"tool_calls": both}) + event(finish="tool_calls") + DONE
    assert [found.arguments for found in answer(data).choices[0].tool_calls] == ['{"x":1}', '{"y":2}']
    in_parts = [call(arguments=":1}"), call(arguments=":2}")], [call("f", '{"x"'), call("g", '{"y"')]
    data = b"".join(event({"tool_calls": calls}) for calls in reversed(in_parts)) + END + DONE
    assert [found.arguments for found in answer(data).choices[0].tool_calls] == ['{"x":1}', '{"y":2}']


def test_calls_of_one_tool_without_ids_stay_apart() -> None:
    data = fragments(call("f", '{"x":1}'), call("f", '{"x":2}'), call("now"), call("today"))
    found = answer(data).choices[0].tool_calls
    assert [(each.name, each.arguments) for each in found] == [
        *(("f", '{"x":1}'), ("f", '{"x":2}')),
        *(("now", ""), ("today", "")),
    ]


def test_tool_calls_of_several_choices_stay_apart() -> None:
    data = b"".join(
        event({"tool_calls": [call("f", arguments, index=0)]}, index=choice)
        for choice, arguments in ((0, '{"x"'), (1, '{"y"'))
    )
    data += b"".join(
        event({"tool_calls": [call("", arguments, index=0)]}, index=choice)
        for choice, arguments in ((0, ":1}"), (1, ":2}"))
    )
    found = answer(data + DONE).choices
    assert [choice.tool_calls[0].arguments for choice in found] == ['{"x":1}', '{"y":2}']


def test_calls_of_a_complete_message_stay_apart() -> None:
    calls = [call("f", '{"x":1}', id="a", index=0), call("g", '{"y":2}', id="b", index=0)]
    body = msgspec.json.encode({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    assert [found.arguments for found in read_body(body).choices[0].tool_calls] == ['{"x":1}', '{"y":2}']


@pytest.mark.parametrize("reason", ["", " ", "null", "None"])
def test_an_empty_finish_reason_is_none(reason: str) -> None:
    with pytest.raises(UpstreamCut):
        read(text("a", finish=reason))
    assert answer(text("a", finish=reason) + DONE).choices[0].finish == ""


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        (rb"h\ud83d x", "h\ufffd x"),
        (rb"\ude00!", "\ufffd!"),
        (b"h\xffi", "h\ufffdi"),
        (b"\xf0\x9f", "\ufffd"),
        (rb"\ud83d\ude00", "🙂".replace("🙂", "\U0001f600")),
    ],
)
def test_text_that_is_not_unicode_is_mended(content: bytes, mended: str) -> None:
    data = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % content
    assert answer(data + HELLO).choices[0].text == mended + "Hello"
    body = b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % content
    assert read_body(body).choices[0].text == mended


def test_a_function_of_the_old_form_is_a_tool_call() -> None:
    called = {"content": "", "function_call": {"name": "f", "arguments": "{}"}}
    data = event(called) + event(finish="function_call") + DONE
    assert answer(data).choices[0] == Choice(tool_calls=(ToolCall("", "f", "{}"),), finish="tool_calls")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("MAX_TOKENS", "length"),
        ("max_new_tokens", "length"),
        ("sensitive", "content_filter"),
        ("repetition", "stop"),
    ],
)
def test_finish_reasons_are_ours(reason: str, finish: str) -> None:
    assert answer(text("a") + event(finish=reason) + DONE).choices[0].finish == finish


@pytest.mark.parametrize(
    "reason", ["abort", "error", "network_error", "timeout", "insufficient_system_resource", "NETWORK_ERROR"]
)
def test_a_response_aborted_by_the_server_was_cut(reason: str) -> None:
    with pytest.raises(UpstreamCut):
        read(text("a") + event(finish=reason) + DONE)


def test_the_stop_sequence_is_read() -> None:
    assert answer(text("a") + event(finish="stop", stop_reason="END") + DONE).choices[0].stop_sequence == "END"
    assert answer(text("a") + event(finish="stop", stop_reason=128) + DONE).choices[0].stop_sequence == ""


@pytest.mark.parametrize(
    "usage",
    [
        b'data: {"choices":[],"usage":{"prompt_tokens":14,"completion_tokens":3,"total_tokens":17}}\n\n',
        b'data: {"object":"chat.completion","choices":[],"usage":{"prompt_tokens":14,"completion_tokens":3}}\n\n',
        b'data: {"usage":{"prompt_tokens":14,"completion_tokens":3}}\n\n',
        b'data: {"choices":null,"usage":{"prompt_tokens":14,"completion_tokens":3}}\n\n',
    ],
)
def test_usage_is_read_in_any_event(usage: bytes) -> None:
    assert answer(text("a") + END + usage + DONE).usage == Usage(14, 3)


def test_usage_on_the_finishing_event_is_read() -> None:
    data = END.replace(b'"id":"x"', b'"usage":{"prompt_tokens":1,"completion_tokens":2}')
    assert read(text("a") + data)[-1] == Chunk(finish="stop", usage=Usage(1, 2))


def test_llamacpps_timings_become_tokens_and_seconds() -> None:
    timings = b'"timings":{"cache_n":13,"prompt_n":1,"prompt_ms":5.0,"predicted_n":5,"predicted_ms":2.5}'
    found = answer(text("a") + END.replace(b'"id":"x"', timings))
    assert found.usage == Usage(14, 5, 13, prompt_seconds=0.005, completion_seconds=0.0025)


def test_logprobs_are_read() -> None:
    content = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0}]}]
    found = read(text("a", logprobs={"content": content}) + END)
    assert found[0].logprobs == (Logprob("a", -0.5, (97,), (Logprob("b", -1.0),)),)
    assert read(text("a", logprobs=None) + END)[0].logprobs == ()
    assert read(text("a", logprobs={"content": None}) + END)[0].logprobs == ()


def test_several_choices_are_kept_apart() -> None:
    data = text("a") + text("b", index=1) + text("c") + END + event(finish="length", index=1) + DONE
    assert answer(data).choices == (Choice("ac", finish="stop"), Choice("b", finish="length"))


def test_a_refusal_is_read() -> None:
    assert answer(event({"refusal": "no"}) + END).choices[0].refusal == "no"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b": keepalive\n\n",
        text("a"),
        text("a") + text("b"),
        text("a") + END[:-20],
        text("a") + text("b", index=1) + END,
        event({"role": "assistant"}),
    ],
)
def test_a_stream_that_stops_early_is_cut(data: bytes) -> None:
    with pytest.raises((UpstreamCut, UpstreamGarbage)):
        read(data)


def test_done_without_a_finish_is_an_end() -> None:
    assert answer(text("a") + DONE) == ModelResponse((Choice("a"),))


@pytest.mark.parametrize(
    "data",
    [
        b"<html><body>502 Bad Gateway</body></html>\n\n",
        b"Internal Server Error\n",
        b"data: {nonsense}\n\n",
        b'data: {"choices":3}\n\n',
        b'data: {"choices":[3]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":3}}]}\n\n',
        b"data: []\n\n",
        b'data: "text"\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"\x00\x01\x02\n",
        b'{"choices":\n\n',
        b'{"nothing":1}',
    ],
)
def test_garbage_is_reported_as_such(data: bytes) -> None:
    with pytest.raises(UpstreamGarbage) as caught:
        read(data)
    assert "vLLM" in caught.value.message
    assert len(caught.value.message) < 400


def test_an_endless_line_is_refused() -> None:
    reader = EventStreamReader("vLLM")
    piece = b"x" * (1 << 20)
    for _ in range(MAX_EVENT >> 20):
        assert list(reader.feed(piece)) == []
    with pytest.raises(UpstreamGarbage):
        list(reader.feed(piece))


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b'data: {"error":{"message":"boom","type":"InternalServerError","code":500}}\n\n', UpstreamError, "boom"),
        (b'data: {"error":{"message":"bad","type":"BadRequestError","code":400}}\n\n', UpstreamStatus, "bad"),
        (b'data: {"error":"boom"}\n\n', UpstreamError, "boom"),
        (b'data: {"object":"error","message":"boom","type":"X","code":500}\n\n', UpstreamError, "boom"),
        (b'data: {"detail":"boom"}\n\n', UpstreamError, "boom"),
        (b'error: {"code":500,"message":"boom","type":"server_error"}\n\n', UpstreamError, "boom"),
        (b'event: error\ndata: {"message":"boom"}\n\n', UpstreamError, "boom"),
        (b"event: error\ndata: boom\n\n", UpstreamError, "boom"),
        (b'data: {"error":{}}\n\n', UpstreamError, "no reason"),
        (
            (
                b'data: {"error":{"code":400,"message":"request (30 tokens) exceeds the available context size '
                b'(20 tokens)",'
                b'"type":"exceed_context_size_error"}}\n\n'
            ),
            ContextLengthExceeded,
            "30",
        ),
    ],
)
@pytest.mark.parametrize("before", [b"", text("a")])
def test_an_error_in_a_stream_is_raised_after_the_chunks_before_it(
    data: bytes, kind: type[PenstockError], words: str, before: bytes
) -> None:
    found, error = until_error(before + data)
    assert isinstance(error, kind)
    assert words in error.message
    assert found == ([Chunk("a")] if before else [])
    assert until_error(before, data)[0] == found


def test_an_error_instead_of_a_stream_is_raised() -> None:
    with pytest.raises(UpstreamError) as caught:
        read(b'{"error":{"message":', b'"boom"}}')
    assert "boom" in caught.value.message


@given(st.binary(max_size=300))
def test_any_bytes_give_chunks_or_an_upstream_error(data: bytes) -> None:
    with contextlib.suppress(UpstreamError):
        assert all(isinstance(chunk, Chunk) for chunk in read(data))


def read_body(data: bytes, parse=parse_response) -> ModelResponse:
    reader = BodyReader("vLLM", parse)
    chunks = list(reader.feed(data[:5])) + list(reader.feed(data[5:])) + list(reader.close())
    return assemble_response(chunks)


def test_a_complete_chat_is_read() -> None:
    data = b"""{"choices":[{"index":0,"message":{"role":"assistant","content":"a","reasoning":"b","refusal":null},
      "finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"""
    assert read_body(data) == ModelResponse((Choice("a", thinking="b", finish="stop"),), Usage(1, 2))


def test_complete_texts_are_read() -> None:
    data = (
        b'{"choices":[{"text":"a","index":0,"finish_reason":"stop"},{"text":"b","index":1,"finish_reason":"length"}]}'
    )
    assert read_body(data) == ModelResponse((Choice("a", finish="stop"), Choice("b", finish="length")))


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.0}], "text_offset": [0]},
        {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.0}]}]},
    ],
)
def test_logprobs_of_texts_are_read_in_both_forms(logprobs: dict) -> None:
    data = msgspec.json.encode({"choices": [{"text": "a", "logprobs": logprobs, "finish_reason": "stop"}]})
    assert read_body(data).choices[0].logprobs == (Logprob("a", -0.5, None, (Logprob("b", -1.0),)),)


def test_the_first_token_of_an_echo_has_no_logprob() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {"b": -1.0}]}
    data = msgspec.json.encode({"choices": [{"text": "ab", "logprobs": logprobs, "finish_reason": "stop"}]})
    assert [one.token for one in read_body(data).choices[0].logprobs] == ["a", "b"]


def test_vectors_are_read_in_the_order_of_the_inputs() -> None:
    data = b'{"data":[{"index":1,"embedding":[2.5]},{"index":0,"embedding":[1,2]}],"usage":{"prompt_tokens":3}}'
    assert read_body(data, parse_embeddings).vectors == ((1.0, 2.0), (2.5,))
    assert read_body(data, parse_embeddings).usage == Usage(3)


def test_vectors_may_be_base64() -> None:
    assert read_body(b'{"data":[{"embedding":"AACAPw=="}]}', parse_embeddings).vectors == ("AACAPw==",)


@pytest.mark.parametrize("data", [b'{"count":18,"max_model_len":256,"tokens":[1]}', b'{"input_tokens":18}'])
def test_counts_are_read(data: bytes) -> None:
    assert read_body(data, parse_token_count).usage == Usage(18)


@pytest.mark.parametrize(
    ("data", "parse"),
    [
        (b"{}", parse_response),
        (b"[]", parse_response),
        (b"<html>", parse_response),
        (b'{"choices":[{"message":', parse_response),
        (b"{}", parse_embeddings),
        (b'{"data":[{"embedding":["a"]}]}', parse_embeddings),
        (b"{}", parse_token_count),
        (b'{"count":"x"}', parse_token_count),
    ],
)
def test_an_invalid_body_is_garbage(data: bytes, parse) -> None:
    with pytest.raises(UpstreamGarbage):
        read_body(data, parse)


@pytest.mark.parametrize("data", [b"", b"  \n"])
def test_an_empty_response_was_cut(data: bytes) -> None:
    with pytest.raises(UpstreamCut):
        read_body(data)


@pytest.mark.parametrize("parse", [parse_response, parse_embeddings])
def test_an_error_with_status_200_is_an_error(parse) -> None:
    with pytest.raises(UpstreamError) as caught:
        read_body(b'{"error":{"message":"boom"}}', parse)
    assert "boom" in caught.value.message
