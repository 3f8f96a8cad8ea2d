"""Asynchronous runs of Victoria."""

import contextlib
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.content import AgentTask
from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, ModelResponse, assemble_response
from penstock.engines.base import FetchResponse
from penstock.engines.victoria.async_run import RunReader, compute_poll_delay
from penstock.engines.victoria.engine import ENGINE

ACCEPTED = {"task_id": "t-1", "status": "queued", "status_url": "/run/status/t-1"}
UNDERWAY = ["queued", "running", "Running", "pending", "processing"]


def body(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def poll(reader: RunReader, *statuses: object) -> list[Chunk]:
    """Feed the reader one status after the other."""
    return [chunk for one in statuses for chunk in reader.read_poll(FetchResponse(200, body(one)))]


def start_run(accepted: object = ACCEPTED, question_is_text: bool = False) -> RunReader:
    """Create a reader that has read the response of `/run`."""
    reader = RunReader(question_is_text)
    assert list(reader.feed(body(accepted))) == []
    assert list(reader.close()) == []
    return reader


def finish_run(*statuses: object) -> ModelResponse:
    reader = start_run()
    answer = assemble_response(poll(reader, *statuses))
    assert reader.next_poll is None
    return answer


def test_a_task_is_requested_asynchronously_with_fallbacks() -> None:
    call = Call("agent.stream", Operation.AGENT, "", True, b"")
    outgoing = ENGINE.translate_request(call, AgentTask("go"), Model("victoria"))
    later = outgoing.fallback
    assert later is not None
    assert (outgoing.path, later.path, later.may_be_polled) == ("/stream", "/run?async_mode=true", True)
    assert later.fallback is not None
    assert (later.fallback.path, later.fallback.may_be_polled) == ("/run", False)
    assert isinstance(ENGINE.create_reader(call, AgentTask("go"), later), RunReader)


def test_an_accepted_task_is_polled_until_it_is_complete() -> None:
    reader = start_run()
    assert reader.next_poll is not None
    assert reader.next_poll.path == "/run/status/t-1"
    steps = poll(reader, {"status": "running", "stage": "Reading"}, {"status": "running", "stage": "Reading"})
    assert [chunk.step for chunk in steps] == ["Reading"]
    assert reader.next_poll is not None
    answer = assemble_response(
        poll(reader, {"status": "completed", "stage": "completed", "output": "Done", "error": None})
    )
    assert (answer.choices[0].text, answer.choices[0].finish) == ("Done", "stop")
    assert reader.next_poll is None


@given(
    st.lists(st.tuples(st.sampled_from(UNDERWAY), st.sampled_from([None, "queued", "Читаю", "Пишу"])), max_size=20),
    st.text(min_size=1),
)
def test_a_polled_run_gives_the_same_response_as_one_at_once(stages: list[tuple[str, str | None]], text: str) -> None:
    single = RunReader(question_is_text=False)
    at_once = assemble_response([*single.feed(body({"status": "success", "output": text})), *single.close()])
    later = finish_run(
        *({"status": status, "stage": stage} for status, stage in stages), {"status": "completed", "output": text}
    )
    assert later.choices == at_once.choices
    assert all(one != other for one, other in zip(later.steps, later.steps[1:], strict=False))
    assert set(later.steps) <= {"Читаю", "Пишу"}


def test_a_version_that_responds_at_once_is_supported() -> None:
    reader = RunReader(question_is_text=False)
    chunks = [*reader.feed(body({"status": "success", "output": "at once", "correlation_id": "c"})), *reader.close()]
    assert assemble_response(chunks).choices[0].text == "at once"
    assert reader.next_poll is None


QUESTION = {"status": "needs_clarification", "clarification_questions": ["Which?"], "original_goal": "go"}


@pytest.mark.parametrize("statuses", [QUESTION, {"status": "completed", "output": QUESTION}])
def test_a_clarification_is_a_step_whenever_it_comes(statuses: object) -> None:
    answer = finish_run({"status": "running"}, statuses)
    assert "Which?" in answer.steps[-1]
    assert answer.choices[0].text == ""
    reader = start_run(question_is_text=True)
    assert "Which?" in assemble_response(poll(reader, statuses)).choices[0].text


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ({"status": "failed", "error": "no memory", "output": None}, "Victoria failed: no memory"),
        ({"status": "failed"}, "its status is 'failed'"),
        ({"status": "cancelled"}, "its status is 'cancelled'"),
        ({"status": "completed", "output": None}, "without `output`"),
        ([1], "not a JSON object"),
    ],
)
def test_a_failed_run_gives_the_reason(statuses: object, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        poll(start_run(), statuses)


def test_an_unknown_run_was_cut() -> None:
    with pytest.raises(UpstreamCut, match="no longer has this run"):
        list(start_run().read_poll(FetchResponse(404, b'{"detail":"Task not found"}')))


@pytest.mark.parametrize("text", [b'{"detail":"what?"}', b"what?"])
def test_a_failed_poll_gives_the_reason(text: bytes) -> None:
    with pytest.raises(UpstreamError, match=r"status 422: what"):
        list(start_run().read_poll(FetchResponse(422, text)))


@pytest.mark.parametrize(
    ("accepted", "path"),
    [
        ({"task_id": 7, "status": "running"}, "/run/status/7"),
        ({"task_id": "a/../b?c", "status": "queued"}, "/run/status/a%2F..%2Fb%3Fc"),
        ({"status": "accepted", "status_url": "http://elsewhere.example/run/status/t-9/"}, "/run/status/t-9"),
    ],
)
def test_only_the_task_id_is_used_and_never_another_address(accepted: object, path: str) -> None:
    reader = start_run(accepted)
    assert reader.next_poll is not None
    assert reader.next_poll.path == path


def test_a_task_without_an_id_is_garbage() -> None:
    with pytest.raises(UpstreamGarbage, match="no task id"):
        start_run({"status": "queued"})


@given(st.integers(min_value=0, max_value=10**6))
def test_poll_delays_grow_up_to_a_limit(polls: int) -> None:
    assert 0.1 <= compute_poll_delay(polls) <= compute_poll_delay(polls + 1) <= 2.0


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([body(ACCEPTED), b"{}", b"[", b"null"])), max_size=4))
def test_garbage_in_polls_raises_only_errors_of_the_tree(statuses: Iterable[bytes]) -> None:
    reader = start_run()
    with contextlib.suppress(PenstockError):
        for one in statuses:
            list(reader.read_poll(FetchResponse(200, one)))
    assert reader.next_poll is None or reader.next_poll.path == "/run/status/t-1"
