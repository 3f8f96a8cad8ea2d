"""Responses of Victoria, however they are split."""

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.response import Chunk, assemble_response
from penstock.engines.victoria.response import VictoriaReader

STREAM = (
    "\ufeff: hello\r\n\r\n"
    'event: start\r\ndata: {"session_id": "s"}\r\n\r\n'
    'event: step\ndata: {"step": 1, "title": "Ищу файлы"}\n\n'
    'event:progress\nid: 7\ndata:{"progress":40,"message":"40 %"}\n\n'
    'event: chunk\ndata: {"content": "При"}\n\n'
    'data: {"type": "chunk", "text": "вет"}\n\n'
    "event: chunk\ndata:  мир\ndata: !\n\n"
    "event: heartbeat\ndata: {}\n\n"
    'event: end\ndata: {"status": "success"}\n\n'
).encode()
CLARIFY = {
    "status": "needs_clarification",
    "clarification_questions": ["Какой проект?", "К какому сроку?"],
    "original_goal": "сделай отчёт",
    "suggested_restatement": "Составить отчёт о продажах",
}
CLARIFIED = "Нужно уточнение:\n1. Какой проект?\n2. К какому сроку?\nЦель понята так: Составить отчёт о продажах"


def read_chunks(*pieces: bytes, question_is_text: bool = False) -> list[Chunk]:
    reader = VictoriaReader(question_is_text)
    chunks: list[Chunk] = []
    for piece in pieces:
        chunks.extend(reader.feed(piece))
    chunks.extend(reader.close())
    return chunks


def split_at(data: bytes, at: Iterable[int]) -> list[bytes]:
    points = [0, *sorted({point % (len(data) + 1) for point in at}), len(data)]
    return [data[begin:end] for begin, end in pairwise(points)]


def body(**value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def event(name: str, **value: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + body(**value) + b"\n\n"


def test_a_stream_gives_steps_and_text_and_an_end() -> None:
    answer = assemble_response(read_chunks(STREAM))
    assert answer.choices[0].text == "Привет мир\n!"
    assert answer.choices[0].finish == "stop"
    assert answer.steps == ("Ищу файлы", "40 %")


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_any_split_of_a_stream_gives_the_same_response(at: list[int]) -> None:
    assert assemble_response(read_chunks(*split_at(STREAM, at))) == assemble_response(read_chunks(STREAM))


@given(st.integers(min_value=0, max_value=STREAM.index(b"event: end")))
def test_a_stream_without_its_end_was_cut(length: int) -> None:
    with pytest.raises(UpstreamCut):
        read_chunks(STREAM[:length])


@given(st.lists(st.integers(min_value=0), max_size=6), st.booleans())
def test_any_split_of_one_body_gives_the_same_response(at: list[int], padded: bool) -> None:
    data = (b"\n \n" if padded else b"") + body(status="success", output="Готово", correlation_id="c")
    assert assemble_response(read_chunks(*split_at(data, at))).choices[0].text == "Готово"


@given(st.binary(max_size=80))
def test_any_bytes_give_chunks_or_an_upstream_error(data: bytes) -> None:
    try:
        chunks = read_chunks(data)
    except PenstockError as error:
        chunks = []
        failed = isinstance(error, UpstreamError)
    else:
        failed = False
    assert failed or chunks[-1].finish == "stop"


def test_tokens_come_out_as_they_come_in() -> None:
    reader = VictoriaReader(question_is_text=False)
    assert [chunk.text for chunk in reader.feed(event("chunk", content="a"))] == ["a"]
    assert [chunk.text for chunk in reader.feed(event("chunk", content=" b"))] == [" b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"status": "success", "output": "a", "result": "b"}, "a"),
        ({"status": "success", "output": None, "result": "b", "response": "c"}, "b"),
        ({"status": "success", "output": "", "response": "c"}, "c"),
        ({"output": "a"}, "a"),
        ({"status": "success", "output": ""}, ""),
        ({"status": "success", "output": {"a": [1]}}, '{"a":[1]}'),
        ({"status": "success", "plan": ["найти", {"title": "сделать"}, {"x": 1}]}, '1. найти\n2. сделать\n3. {"x":1}'),
        ({"status": "success", "plan": "first this"}, "first this"),
    ],
)
def test_the_text_is_output_else_result_else_response_else_plan(value: dict[str, object], text: str) -> None:
    answer = assemble_response(read_chunks(body(**value)))
    assert (answer.choices[0].text, answer.choices[0].finish) == (text, "stop")


def test_a_clarification_is_a_step_of_a_task_and_the_text_of_a_chat() -> None:
    task = assemble_response(read_chunks(body(**CLARIFY)))
    assert (task.choices[0].text, task.steps, task.choices[0].finish) == ("", (CLARIFIED,), "stop")
    chat = assemble_response(read_chunks(body(**CLARIFY), question_is_text=True))
    assert (chat.choices[0].text, chat.steps) == (CLARIFIED, ())


@pytest.mark.parametrize("name", ["end", "step", "chunk", "clarification"])
def test_a_clarification_is_read_in_a_stream_too(name: str) -> None:
    answer = assemble_response(read_chunks(event("start") + event(name, **CLARIFY)))
    assert answer.steps == (CLARIFIED,)


def test_an_english_clarification_is_in_english() -> None:
    question = {"status": "needs_clarification", "clarification_questions": "Which?", "original_goal": "do it"}
    assert assemble_response(read_chunks(body(**question))).steps == (
        "More needs to be known first:\n1. Which?\nThe goal as understood: do it",
    )


def test_an_end_with_the_complete_response_does_not_repeat_streamed_text() -> None:
    end = event("end", status="success", output="abc")
    assert assemble_response(read_chunks(event("step", message="s") + end)).choices[0].text == "abc"
    assert assemble_response(read_chunks(event("chunk", content="abc") + end)).choices[0].text == "abc"


def test_done_is_an_end_and_nothing_counts_after_one() -> None:
    assert assemble_response(read_chunks(event("chunk", content="a") + b"data: [DONE]\n\n")).choices[0].finish == "stop"
    after = event("end") + event("chunk", content="b") + event("error", error="late")
    assert assemble_response(read_chunks(event("chunk", content="a") + after)).choices[0].text == "a"


def test_an_end_without_its_blank_line_is_an_end() -> None:
    assert read_chunks(b"event: chunk\ndata: a\n\nevent: end\ndata: {}")[-1].finish == "stop"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (event("error", error="the model is away"), "the model is away"),
        (event("error", error={"message": "deep"}), "deep"),
        (b"event: error\ndata: plain\n\n", "plain"),
        (event("error"), "gave no reason"),
        (event("end", status="failed", error="no luck"), "no luck"),
        (body(status="error", message="no luck"), "no luck"),
        (body(status="failed", output="half", error="broke"), "broke"),
        (body(status="queued", task_id="t"), "queued"),
        (body(status=7), "7"),
    ],
)
def test_an_error_keeps_its_message(data: bytes, words: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        read_chunks(data)
    assert caught.value.message.startswith("Victoria failed: ")
    assert words in caught.value.message
    assert caught.value.retryable


def test_chunks_before_an_error_are_not_lost() -> None:
    reader = VictoriaReader(question_is_text=False)
    chunks = iter(reader.feed(event("chunk", content="a") + event("error", error="b")))
    assert next(chunks).text == "a"
    with pytest.raises(UpstreamError):
        next(chunks)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", UpstreamCut),
        (b"{", UpstreamCut),
        (b'{"output": "a', UpstreamCut),
        (b"[1]", UpstreamGarbage),
        (b"{}", UpstreamGarbage),
        (b"{]", UpstreamGarbage),
        (b'{"output": "\xff"}', UpstreamGarbage),
        (b"<html>\n", UpstreamGarbage),
        (b"event: chunk\ndata: {]\n\n", UpstreamGarbage),
    ],
)
def test_invalid_responses_are_garbage(data: bytes, error: type[PenstockError]) -> None:
    with pytest.raises(error):
        read_chunks(data)


def test_an_endless_event_is_refused() -> None:
    line = b"data: " + b"x" * (1 << 20) + b"\n"
    with pytest.raises(UpstreamGarbage, match="16 MiB"):
        read_chunks(*[line] * 17)
    with pytest.raises(UpstreamGarbage, match="16 MiB"):
        list(VictoriaReader(question_is_text=False).feed(b"data: " + b"x" * (17 << 20)))
