"""Agent chat with streaming: events, their order and their fields."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.agent_chat.stream import DIALECT
from penstock.domain.errors import InvalidRequest, NoServer, UpstreamCut
from penstock.domain.provenance import Provenance
from penstock.domain.response import Choice, Chunk, ModelResponse, Usage

ENDPOINT = DIALECT.endpoints[0]
BY = Provenance("r1", server_url="http://localhost:8010", provider="victoria", model="victoria")
CALL = ENDPOINT.parse_request(b'{"content": "a"}', b"")
START = {
    "request_id": "r1",
    "provider": "victoria",
    "model": "victoria",
    "server_used": "http://localhost:8010",
    "fallback": False,
}


def parse_events(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    assert stream.endswith(b"\n\n")
    found = []
    for block in stream.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def render_stream(*chunks: Chunk, by: Provenance = BY) -> list[tuple[str, dict[str, Any]]]:
    writer = ENDPOINT.create_renderer(CALL, by)
    return parse_events(b"".join(map(writer.render_chunk, chunks)) + writer.render_end())


def test_it_streams_with_the_content_type_of_events() -> None:
    assert CALL.stream
    assert CALL.kinds == ("victoria", "mlx")
    assert ENDPOINT.create_renderer(CALL, BY).content_type == b"text/event-stream; charset=utf-8"


def test_steps_and_pieces_come_between_start_and_end() -> None:
    assert render_stream(Chunk(step="ищу"), Chunk("При"), Chunk("вет", finish="stop", usage=Usage(3, 4))) == [
        ("start", START),
        ("step", {"step": "ищу"}),
        ("chunk", {"content": "При"}),
        ("chunk", {"content": "вет"}),
        (
            "end",
            {
                "status": "success",
                "finish_reason": "stop",
                "prompt_tokens": 3,
                "response_tokens": 4,
                "total_tokens": 7,
            },
        ),
    ]


def test_an_empty_answer_still_starts_and_ends() -> None:
    assert render_stream() == [("start", START), ("end", {"status": "success", "finish_reason": None})]


def test_thinking_is_separate_from_the_answer() -> None:
    assert render_stream(Chunk(thinking="hm"))[1] == ("chunk", {"content": "", "thinking": "hm"})


def test_the_start_event_reports_the_fallback_and_simulation() -> None:
    by = Provenance("r", provider="mlx", is_fallback=True, warning="Victoria is away", is_simulated=True)
    start = render_stream(by=by)[0][1]
    assert (start["fallback"], start["warning"], start["simulated"]) == (True, "Victoria is away", True)


def test_a_stream_that_breaks_ends_with_an_error_and_an_end() -> None:
    writer = ENDPOINT.create_renderer(CALL, BY)
    stream = writer.render_chunk(Chunk("a")) + writer.render_error(UpstreamCut("The engine went away."))
    assert parse_events(stream)[2:] == [
        (
            "error",
            {
                "code": "upstream_error",
                "message": "The engine went away.",
                "request_id": "r1",
                "status": 502,
                "retryable": True,
            },
        ),
        ("end", {"status": "error", "finish_reason": None}),
    ]


def test_an_error_before_the_start_is_sent_as_events_too() -> None:
    assert DIALECT.media_type == b"text/event-stream; charset=utf-8"
    parsed = parse_events(DIALECT.render_error(NoServer("Никто не отвечает.", retry_after=5), "r"))
    assert [name for name, _ in parsed] == ["error", "end"]
    assert parsed[0][1].items() >= {"code": "no_server", "status": 503, "retry_after": 5, "retryable": True}.items()
    assert parse_events(ENDPOINT.render_interruption(UpstreamCut("cut")))[0][0] == "error"


def test_a_complete_response_is_rendered_as_the_same_events() -> None:
    writer = ENDPOINT.create_renderer(CALL, BY)
    complete = writer.render_response(ModelResponse((Choice("ab", finish="stop"),), Usage(1, 2), steps=("s",)), BY)
    assert [name for name, _ in parse_events(complete)] == ["start", "step", "chunk", "end"]


def test_the_end_and_the_usage_can_be_read_back() -> None:
    writer = ENDPOINT.create_renderer(CALL, BY)
    stream = writer.render_chunk(Chunk("a", usage=Usage(1, 2, estimated=True)))
    assert not ENDPOINT.is_complete(stream)
    assert ENDPOINT.parse_usage(stream, streamed=True) is None
    stream += writer.render_end()
    assert ENDPOINT.is_complete(stream)
    assert ENDPOINT.parse_usage(stream, streamed=True) == Usage(1, 2, estimated=True)


@given(st.lists(st.text(max_size=20), max_size=8))
def test_no_text_breaks_out_of_its_event(texts: list[str]) -> None:
    stream = render_stream(*map(Chunk, texts))
    assert "".join(data["content"] for name, data in stream if name == "chunk") == "".join(texts)


def test_a_bad_body_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENDPOINT.parse_request(b'{"content": ""}', b"")
    assert caught.value.param == "content"
