"""Responses of Ollama."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.dialects.ollama import DIALECT
from penstock.domain.content import ToolCall
from penstock.domain.errors import ContextLengthExceeded, UpstreamCut, UpstreamGarbage, UpstreamStatus
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response
from penstock.engines.ollama.errors import parse_stream_error
from penstock.engines.ollama.response import OllamaReader

WIRES = {endpoint.wire: endpoint for endpoint in DIALECT.endpoints}
HEAD = {"model": "m", "created_at": "2026-08-21T18:48:22.1Z"}


def line(**fields: object) -> bytes:
    return json.dumps(HEAD | fields, ensure_ascii=False).encode() + b"\n"


def text_line(text: str, **more: object) -> bytes:
    return line(message={"role": "assistant", "content": text} | more, done=False)


DONE = line(
    message={"role": "assistant", "content": ""}, done=True, done_reason="stop", total_duration=3_000_000_000,
    load_duration=500_000_000, prompt_eval_count=26, prompt_eval_duration=1_000_000_000, eval_count=7,
    eval_duration=1_500_000_000,
)  # fmt: skip
SPENT = Usage(26, 7, load_seconds=0.5, prompt_seconds=1.0, completion_seconds=1.5, total_seconds=3.0)
CALLS = [
    {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"city": "Tōkyō"}}},
    {"function": {"name": "g", "arguments": {}}},
]
STREAM = b"".join(
    (
        text_line("", thinking="hm"),
        text_line("Hé"),
        text_line("\u2028<b>"),
        text_line("", tool_calls=CALLS),
        text_line("x\ny"),
        b"\n",
        DONE,
    )
)


def create_reader(*, streamed: bool = True) -> OllamaReader:
    return OllamaReader("Ollama", parse_stream_error, streamed=streamed)


def read_chunks(*pieces: bytes, streamed: bool = True) -> list[Chunk]:
    reading = create_reader(streamed=streamed)
    chunks = [chunk for piece in pieces for chunk in reading.feed(piece)]
    return chunks + list(reading.close())


def test_a_stream_gives_its_pieces_in_order():
    chunks = read_chunks(STREAM)
    assert [chunk.text for chunk in chunks] == ["", "Hé", "\u2028<b>", "", "x\ny", ""]
    assert chunks[0].thinking == "hm"
    assert chunks[3].tool_calls[0] == ToolDelta(0, "call_1", "f", '{"city": "Tōkyō"}')
    assert (chunks[-1].finish, chunks[-1].usage) == ("tool_calls", SPENT)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
@example(list(range(len(STREAM))))
def test_any_split_of_a_stream_gives_the_same_chunks(cuts: list[int]):
    pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
    assert read_chunks(*pieces) == read_chunks(STREAM)


def test_a_call_without_an_id_gets_a_stable_one():
    ids = {read_chunks(STREAM)[3].tool_calls[1].id for _ in range(2)}
    assert len(ids) == 1
    assert ids.pop().startswith("call_")


def test_generate_is_read_like_chat():
    chunks = read_chunks(
        line(response="", thinking="hm", done=False),
        line(response="Hi", done=False),
        line(response="", done=True, done_reason="length", context=[1, 2], eval_count=1),
    )
    assert assemble_response(chunks) == ModelResponse(
        (Choice("Hi", "hm", finish="length", context=(1, 2)),), Usage(completion_tokens=1)
    )


def test_one_body_may_come_in_parts_and_on_several_lines():
    body = json.dumps(HEAD | {"message": {"content": "Hi"}, "done": True, "done_reason": "stop"}, indent=1).encode()
    assert read_chunks(body[:30], body[30:], streamed=False) == [Chunk("Hi", finish="stop")]


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_loading_is_a_finish_reason_without_usage(reason: str):
    body = line(message={"role": "assistant", "content": ""}, done=True, done_reason=reason)
    assert read_chunks(body, streamed=False) == [Chunk(finish=reason)]


def test_vectors_come_in_order_with_their_usage():
    body = json.dumps({"model": "m", "embeddings": [[0.5, 1], [2, 3]], "prompt_eval_count": 4}).encode()
    assert read_chunks(body, streamed=False) == [Chunk(vectors=((0.5, 1.0), (2.0, 3.0)), usage=Usage(4))]
    assert read_chunks(b'{"embedding":[1]}', streamed=False) == [Chunk(vectors=((1.0,),))]
    assert read_chunks(b'{"model":"m","embeddings":[]}', streamed=False) == [Chunk()]


def test_logprobs_belong_to_their_chunk():
    logprobs = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1}]}]
    chunk = read_chunks(line(message={"content": "a"}, done=False, logprobs=logprobs), DONE)[0]
    assert chunk.logprobs == (Logprob("a", -0.5, (97,), (Logprob("b", -1.0),)),)


def test_an_endless_line_is_refused_before_it_fills_the_memory():
    reading = create_reader()
    piece = b"x" * (1 << 20)
    with pytest.raises(UpstreamGarbage, match="64 MiB"):
        [chunk for _ in range(65) for chunk in reading.feed(piece)]


def test_a_last_line_without_its_newline_is_read():
    assert read_chunks(text_line("Hi"), DONE.rstrip())[-1].finish == "stop"


def test_older_versions_give_no_reason():
    assert read_chunks(line(message={"content": "x"}, done=True))[0].finish == "stop"


def test_a_stream_that_just_ends_was_cut():
    reading = create_reader()
    assert [chunk.text for chunk in reading.feed(text_line("la") * 3)] == ["la"] * 3
    with pytest.raises(UpstreamCut):
        list(reading.close())


@pytest.mark.parametrize(
    ("pieces", "finish"),
    [
        ((text_line("la") * 3,), "length"),
        ((text_line("", thinking="hm"),), "length"),
        ((line(response="la", done=False),), "length"),
        ((text_line("", tool_calls=CALLS),), "tool_calls"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_response_that_ends_well_without_a_last_line_is_what_a_repetitive_model_wrote(
    pieces: tuple[bytes, ...], finish: str, streamed: bool
):
    reader = OllamaReader("Ollama", parse_stream_error, streamed=streamed, may_stop_early=True)
    if not streamed:
        pieces = (pieces[0].splitlines()[0],)
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)] + list(reader.close(is_delimited=True))
    assert chunks[-1] == Chunk(finish=finish)
    assert len(chunks) > 1


@pytest.mark.parametrize(("data", "is_delimited"), [(text_line("la"), False), (b"", True), (b"\n", True)])
def test_without_text_or_a_marked_end_it_was_cut_all_the_same(data: bytes, is_delimited: bool):
    reader = OllamaReader("Ollama", parse_stream_error, streamed=True, may_stop_early=True)
    list(reader.feed(data))
    with pytest.raises(UpstreamCut):
        list(reader.close(is_delimited))


def test_one_body_that_is_not_done_was_cut():
    with pytest.raises(UpstreamCut):
        read_chunks(text_line("la la la"), streamed=False)
    with pytest.raises(UpstreamCut):
        read_chunks(streamed=False)


def test_an_error_line_raises_after_the_chunks_before_it():
    chunks = iter(
        create_reader().feed(text_line("Hi") + line(error="model runner has unexpectedly stopped, check the logs"))
    )
    assert next(chunks).text == "Hi"
    with pytest.raises(UpstreamStatus, match="model runner has unexpectedly stopped") as raised:
        next(chunks)
    assert (raised.value.status, raised.value.retryable) == (500, True)


def test_an_overflow_in_nested_json_has_both_numbers():
    inner = {"error": {"code": 400, "message": "request (26 tokens) exceeds the available context size (16 tokens), "
             "try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 26, "n_ctx": 16}}  # fmt: skip
    with pytest.raises(ContextLengthExceeded, match=r"26 .* 16"):
        read_chunks(json.dumps({"error": json.dumps(inner)}).encode() + b"\n")


@pytest.mark.parametrize(
    "data",
    [b"<html>\n", b'{"message": 5}\n', b"data: {}\n\n", b'["a"]\n', b"{" * 3 + b"\n", b'{"x":' + b"[" * 9999 + b"\n"],
)
def test_lines_of_another_protocol_are_garbage(data: bytes):
    with pytest.raises(UpstreamGarbage):
        read_chunks(data)


def test_broken_utf8_is_replaced_not_refused():
    assert read_chunks(b'{"message":{"content":"a\xff"},"done":false}\n', DONE)[0].text == "a\ufffd"


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS, max_size=3)
CALLED = st.lists(st.tuples(TEXTS, ARGUMENTS), max_size=3)


@settings(deadline=None)
@given(
    act=st.sampled_from(["chat", "generate"]),
    texts=st.lists(TEXTS, max_size=5),
    thoughts=st.lists(TEXTS, max_size=2),
    called=CALLED,
    finish=st.sampled_from(["stop", "length"]),
    usage=st.builds(Usage, st.integers(1, 10**9), st.integers(1, 10**9), total_seconds=st.just(1.5)),
    streamed=st.booleans(),
)
def test_the_engine_reads_what_the_dialect_renders(
    act: str,
    texts: list[str],
    thoughts: list[str],
    called: list[tuple[str, dict[str, object]]],
    finish: str,
    usage: Usage,
    streamed: bool,
):
    calls = [ToolCall(f"call_{n}", name, json.dumps(arguments)) for n, (name, arguments) in enumerate(called)]
    chunks = [Chunk(thinking=text) for text in thoughts] + [Chunk(text) for text in texts]
    for n, call in enumerate(calls):
        chunks.append(Chunk(tool_calls=(ToolDelta(n, call.id, call.name, call.arguments[:3]),)))
        chunks.append(Chunk(tool_calls=(ToolDelta(n, arguments=call.arguments[3:]),)))
    reason = "tool_calls" if calls and finish == "stop" else finish
    chunks += [Chunk(finish=reason), Chunk(usage=usage)]
    meant = assemble_response(chunks)

    writer = WIRES[f"ollama.{act}"].create_renderer(
        Call(f"ollama.{act}", Operation.CHAT, "m", streamed, b""), Provenance("r")
    )
    pieces = (
        [*map(writer.render_chunk, chunks), writer.render_end()]
        if streamed
        else [writer.render_response(meant, Provenance("r"))]
    )
    expected = b"".join(pieces)
    result = assemble_response(read_chunks(expected, streamed=streamed))

    assert [expected.decode().count("\n")] == [len(expected.decode().splitlines()) if streamed else 0]
    one, other = meant.choices[0], result.choices[0]
    assert (other.text, other.thinking, other.finish) == (one.text, one.thinking, one.finish)
    assert [(c.id, c.name, json.loads(c.arguments)) for c in other.tool_calls] == [
        (c.id, c.name, json.loads(c.arguments)) for c in one.tool_calls
    ]
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    assert WIRES[f"ollama.{act}"].is_complete(expected)
    counted = WIRES[f"ollama.{act}"].parse_usage(expected[-4096:] if streamed else expected, streamed)
    assert counted is not None
    assert counted.total_tokens == usage.total_tokens
