"""One connection to a model server, without a socket: its sink gets the same response, whatever its pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import (
    ClientGone,
    ClientStalled,
    ConnectFailed,
    UpstreamCut,
    UpstreamGarbage,
    UpstreamTimeout,
)
from tests.support.raw_engine import END, chunk, pieces_of, remove_chunk_framing
from tests.unit.gateway.upstream.connection_bench import ConnectionBench, RecordingSink

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
cuts = st.lists(st.integers(0, 4000), max_size=20)
bodies = st.lists(st.binary(min_size=1, max_size=200), max_size=8)


def frame_chunks(parts: list[bytes]) -> bytes:
    return b"".join(map(chunk, parts)) + END


@given(bodies, cuts)
def test_a_body_with_a_length_is_complete_however_it_is_split(parts, at):
    body = b"".join(parts)
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(*pieces_of(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, at))
    assert (sink.status, sink.text, sink.ended) == (200, body, "delimited")
    assert bench.released == [True]
    assert sink.headers[b"content-type"] == b"text/plain"


@given(bodies, cuts, st.booleans())
def test_a_chunked_body_is_complete_however_it_is_split(parts, at, raw):
    bench, sink = ConnectionBench(), RecordingSink(raw=raw)
    bench.send(sink)
    bench.receive(*pieces_of(CHUNKED + frame_chunks(parts), at))
    assert (sink.text, sink.ended) == (b"".join(parts), "delimited")
    assert bench.released == [True]
    if sink.framed:
        assert sink.framed == frame_chunks(parts)


@given(bodies, cuts)
def test_a_body_that_ends_by_closing_is_complete_and_marked(parts, at):
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(*pieces_of(HEAD + b"\r\n" + b"".join(parts), at))
    assert not sink.ended
    bench.lose_connection()
    assert (sink.text, sink.ended) == (b"".join(parts), "closed")
    assert True not in bench.released


@given(st.integers(1, 20), cuts, bodies)
def test_interim_responses_are_skipped_however_they_are_split(many, at, parts):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * many
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(*pieces_of(interim + CHUNKED + frame_chunks(parts), at))
    assert (sink.status, sink.text, sink.ended) == (200, b"".join(parts), "delimited")
    assert b"link" not in sink.headers


lines = st.lists(
    st.binary(max_size=60).map(lambda line: re.sub(rb"[\r\n]", b".", line) + b"\n"), min_size=1, max_size=8
)


@given(lines, st.integers(0, 3000), cuts)
def test_a_chunked_answer_cut_anywhere_leaves_the_client_at_the_end_of_a_line(parts, cut, at):
    complete = CHUNKED + frame_chunks(parts)
    cut = min(cut, len(complete) - 1)
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(*pieces_of(complete[:cut], at))
    bench.lose_connection()
    assert isinstance(sink.ended, UpstreamCut)
    assert not bench.connection.unaligned
    if sink.framed:
        ends = {sum(len(chunk(part)) for part in parts[:n]) for n in range(len(parts) + 1)}
        assert len(sink.framed) in ends
        assert sink.framed == frame_chunks(parts)[: len(sink.framed)]


@given(lines, cuts)
def test_a_complete_line_never_waits_for_the_next(parts, at):
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(CHUNKED)
    for n, part in enumerate(parts, 1):
        bench.receive(*pieces_of(chunk(part), at))
        assert remove_chunk_framing(sink.framed + END) == b"".join(parts[:n])


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=9))
def test_chunks_that_are_no_lines_wait_for_one_more_at_most(parts):
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(CHUNKED)
    for n, part in enumerate(parts):
        bench.receive(chunk(part))
        assert remove_chunk_framing(sink.framed + END).startswith(b"".join(parts[: n - 1] if n else []))


@given(st.binary(max_size=600), cuts)
def test_garbage_is_never_a_response_and_causes_one_error(noise, at):
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(*pieces_of(noise, at))
    if not sink.ended:
        bench.lose_connection()
    assert isinstance(sink.ended, UpstreamGarbage | UpstreamCut)
    assert True not in bench.released


@given(bodies, st.binary(min_size=1, max_size=50), cuts)
def test_bytes_after_a_response_are_dropped_and_the_connection_is_closed(parts, extra, at):
    body = b"".join(parts)
    answer = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(*pieces_of(answer + extra, [cut for cut in at if cut < len(answer)]))
    assert sink.text == body
    assert sink.ended == "delimited"
    if extra.strip(b"\r\n"):
        assert bench.released == [False]


@given(st.lists(bodies, min_size=1, max_size=5), cuts)
def test_a_connection_serves_one_response_after_the_other(answers, at):
    bench = ConnectionBench()
    for n, parts in enumerate(answers, 1):
        sink = bench.send(RecordingSink(raw=n % 2 == 0))
        bench.receive(*pieces_of(CHUNKED + frame_chunks(parts), at))
        assert sink.text == b"".join(parts)
        assert bench.released == [True] * n


@given(bodies)
def test_raw_pieces_contain_the_body(parts):
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(CHUNKED + b"".join(map(chunk, parts[:1])), *map(chunk, parts[1:]), END)
    assert remove_chunk_framing(sink.framed) == sink.text == b"".join(parts)


@pytest.mark.parametrize("trailers", [b"X-T: 1\r\n", b"0: 0\r\n0a:\r\nSet-Cookie: a=b; c\r\n"])
@pytest.mark.parametrize("data", [b"abc", b"abc\n", b"0\r\nX: 1\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_trailers_do_not_go_along_with_raw_pieces(trailers: bytes, data: bytes, size: int):
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    message = b"%x;a=b\r\n%b\r\n0\r\n" % (len(data), data) + trailers + b"\r\n"
    bench.receive(CHUNKED, *(message[at : at + size] for at in range(0, len(message), size)))
    assert sink.text == data
    assert b"X-T" not in sink.framed
    assert b"Set-Cookie" not in sink.framed
    if sink.ended == "delimited":
        assert remove_chunk_framing(sink.framed) == data
        assert sink.framed.endswith(b"\r\n0\r\n\r\n")
        assert bench.released == [True]
    else:
        assert isinstance(sink.ended, UpstreamGarbage)
        assert size < 1000
        assert not data.endswith(b"\n")
        assert True in bench.released or bench.transport.state == "aborted"


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"0\r\n", b"X-T: " + b"1" * 990 + b"\r\n"),
        (b"0\r\nX-T: ", b"1" * 1000),
        (b"3;a=", b"1" * 1000),
    ],
    ids=["lines", "one line", "an extension"],
)
def test_endless_trailers_and_extensions_cost_the_connection(raw: bool, start: bytes, piece: bytes):
    bench, sink = ConnectionBench(), RecordingSink(raw=raw)
    bench.send(sink)
    bench.receive(CHUNKED + chunk(b"abc\n") + start, *[piece] * 100)
    assert isinstance(sink.ended, UpstreamGarbage)
    assert "more than 65536 bytes" in sink.ended.message
    assert bench.transport.state == "aborted"


def test_the_body_of_an_error_gets_little_time():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink, first=100, idle=100)
    bench.receive(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    for now in range(12):
        bench.receive(chunk(b"x"))
        bench.connection.check_deadlines(float(now))
    assert isinstance(sink.ended, UpstreamTimeout)


def test_comments_keep_a_response_alive_for_a_while_only():
    bench, sink = ConnectionBench(), RecordingSink()
    sink.connection = bench.connection
    bench.connection.send_request(b"", sink, 10.0, 5.0, content_limit=50.0)
    bench.receive(CHUNKED)
    ended_at = 0
    for now in range(100):
        bench.receive(chunk(b": wait\n\n" if now > 20 else b"data: {}\n\n"))
        bench.connection.check_deadlines(float(now))
        if sink.ended:
            ended_at = now
            break
    assert isinstance(sink.ended, UpstreamTimeout)
    assert 70 <= ended_at <= 80


def test_a_chunk_too_large_to_buffer_is_forwarded_in_pieces_and_marked():
    bench, sink = ConnectionBench(), RecordingSink(raw=True)
    bench.send(sink)
    bench.receive(CHUNKED + b"186a0\r\n", b"x" * 70_000)
    assert len(sink.framed) > 70_000
    assert bench.connection.unaligned
    bench.receive(b"x" * 29_999 + b"\n\r\n")
    assert not bench.connection.unaligned
    bench.receive(END)
    assert sink.ended == "delimited"


# Ends


def test_a_connection_closed_without_a_byte_was_cut_before_the_response():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.lose_connection()
    assert isinstance(sink.ended, UpstreamCut)
    assert not bench.connection.response_started


def test_a_request_on_a_lost_connection_fails_and_releases_it():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.lose_connection()
    bench.released.clear()
    bench.send(sink)
    assert isinstance(sink.ended, ConnectFailed)
    assert bench.released == [False]


def test_a_reset_is_never_the_end_of_a_body_until_it_closes():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(HEAD + b"\r\nhalf")
    bench.lose_connection(ConnectionResetError())
    assert isinstance(sink.ended, UpstreamCut)


@pytest.mark.parametrize("head", [b"Connection: close\r\n", b"Connection: Close\r\n"])
def test_a_connection_that_the_engine_closes_is_not_used_again(head: bytes):
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.receive(HEAD + head + b"Content-Length: 2\r\n\r\nok")
    assert (sink.ended, bench.released, bench.transport.state) == ("delimited", [False], "closed")


def test_unexpected_bytes_on_a_free_connection_abort_it():
    bench = ConnectionBench()
    bench.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert bench.transport.state == "aborted"
    assert not bench.connection.is_open


def test_an_aborted_connection_is_silent_afterwards():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.connection.abort(ClientGone("gone"))
    assert isinstance(sink.ended, ClientGone)
    bench.connection.data_received(HEAD)
    bench.lose_connection()
    bench.connection.check_deadlines(1e9)
    assert isinstance(sink.ended, ClientGone)


def test_an_abort_without_an_error_reports_nothing():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.connection.abort()
    bench.lose_connection()
    assert not sink.ended
    assert bench.released[0] is False


# Time


def test_the_first_byte_and_silence_have_a_timeout_each():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink, now=100.0, first=10.0, idle=5.0)
    bench.connection.check_deadlines(109.9)
    assert not sink.ended
    bench.receive(CHUNKED + chunk(b"a"))
    bench.connection.check_deadlines(110.0)
    bench.connection.check_deadlines(114.9)
    assert not sink.ended
    bench.connection.check_deadlines(115.0)
    assert isinstance(sink.ended, UpstreamTimeout)
    assert "sent nothing more" in sink.ended.message
    assert bench.transport.state == "aborted"


def test_a_head_alone_does_not_stop_the_first_byte_timeout():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink, now=100.0, first=10.0, idle=100.0)
    bench.receive(CHUNKED)
    bench.connection.check_deadlines(110.0)
    assert isinstance(sink.ended, UpstreamTimeout)


def test_a_response_without_any_byte_is_reported_as_such():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink, now=100.0, first=10.0)
    bench.connection.check_deadlines(110.0)
    assert isinstance(sink.ended, UpstreamTimeout)
    assert "did not start its response" in sink.ended.message


def test_a_client_that_stopped_reading_is_dropped_and_a_slow_one_is_not():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink, now=0.0, first=10.0, idle=5.0)
    bench.receive(CHUNKED + chunk(b"a"))
    sink.unsent = 1000
    bench.connection.pause()
    assert bench.transport.paused
    now = 1.0
    for left in range(900, 0, -100):  # it reads, if slowly
        bench.connection.check_deadlines(now)
        now += 5.0
        sink.unsent = left
        assert not sink.ended
    for _ in range(3):
        bench.connection.check_deadlines(now)
        now += 5.0
    assert isinstance(sink.ended, ClientStalled)


def test_a_paused_connection_reads_again_when_it_is_free():
    bench, sink = ConnectionBench(), RecordingSink()
    bench.send(sink)
    bench.connection.pause()
    bench.receive(HEAD + b"Content-Length: 2\r\n\r\nok")
    assert (sink.ended, bench.released, bench.transport.paused) == ("delimited", [True], False)
    bench.connection.pause()
    assert not bench.transport.paused
