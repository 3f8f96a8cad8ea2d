"""Heads that are let in, and heads that are not; the answer to what is no request."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import ClientStalled, InvalidRequest
from penstock.http1.limits import MAX_HEAD_BYTES
from penstock.serving import request_validation

HOST = (b"host", b"a.local")
CHUNKED = (b"transfer-encoding", b"chunked")
other = st.tuples(st.sampled_from([b"x", b"accept", b"content-type"]), st.binary(max_size=10))
others = st.lists(other, max_size=5)


@given(others, others)
def test_one_host_and_plain_framing_are_let_in(before, after):
    request_validation.check_head("1.1", [*before, HOST, *after])
    request_validation.check_head("1.1", [*before, CHUNKED, HOST, *after])
    request_validation.check_head("1.0", [*before, *after])


@given(others, st.lists(st.sampled_from([b"a", b"b", b""]), min_size=2, max_size=4))
def test_several_hosts_are_not(lines, values):
    for version in ("1.1", "1.0"):
        with pytest.raises(InvalidRequest, match="one Host"):
            request_validation.check_head(version, [*lines, *((b"host", value) for value in values)])


@given(others)
def test_no_host_in_http_1_1_is_not(lines):
    with pytest.raises(InvalidRequest, match="one Host"):
        request_validation.check_head("1.1", lines)


@given(others, st.binary(max_size=20).filter(lambda value: value.strip().lower() != b"chunked"))
def test_a_coding_other_than_chunked_is_not(lines, coding):
    with pytest.raises(InvalidRequest, match="chunked"):
        request_validation.check_head("1.1", [HOST, *lines, (b"transfer-encoding", coding)])


@given(st.integers(2, 4))
def test_chunked_more_than_once_is_not(times):
    with pytest.raises(InvalidRequest, match="once"):
        request_validation.check_head("1.1", [HOST, *[CHUNKED] * times])


def test_chunked_in_http_1_0_is_not():
    with pytest.raises(InvalidRequest, match=r"HTTP/1\.1"):
        request_validation.check_head("1.0", [HOST, CHUNKED])


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0", ""])
def test_other_versions_are_not(version: str):
    with pytest.raises(InvalidRequest, match=r"speaks HTTP/1\.1"):
        request_validation.check_head(version, [HOST])


@given(st.integers(0, 200_000))
def test_a_head_is_measured_by_all_of_it(size):
    lines = [(b"x" * 10, b"y" * 100)] * (size // 114)
    if size // 114 * 114 + 5 > MAX_HEAD_BYTES:
        with pytest.raises(InvalidRequest, match="over 65536 bytes"):
            request_validation.check_size(b"/path", lines)
    else:
        request_validation.check_size(b"/path", lines)


def test_an_offer_to_upgrade_is_left_out_and_the_rest_is_kept():
    lines = [HOST, (b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMA")]
    head = request_validation.without_upgrade(b"POST", b"/v1/x?y", [*lines, (b"content-length", b"5")])
    assert head == b"POST /v1/x?y HTTP/1.1\r\nhost: a.local\r\ncontent-length: 5\r\n\r\n"


def test_an_offer_does_not_hide_that_the_connection_is_to_be_closed():
    head = request_validation.without_upgrade(
        b"GET", b"/", [HOST, (b"upgrade", b"h2c"), (b"connection", b"upgrade, close")]
    )
    assert b"connection: close\r\n" in head


@pytest.mark.parametrize("lines", [[HOST], [HOST, (b"connection", b"upgrade"), (b"upgrade", b"WebSocket")]])
def test_no_offer_or_websockets_is_left_alone(lines: list[tuple[bytes, bytes]]):
    assert request_validation.without_upgrade(b"GET", b"/ws", lines) == b""


def test_websocket_on_a_request_with_a_body_is_no_offer_to_take():
    assert request_validation.without_upgrade(b"POST", b"/ws", [HOST, (b"upgrade", b"websocket")])


@given(st.text(max_size=100))
def test_the_answer_to_what_is_no_request_is_json_whatever_was_sent(words):
    head, _, body = request_validation.response(InvalidRequest(words)).partition(b"\r\n\r\n")
    told = msgspec.json.decode(body)
    assert (told["status"], told["code"], told["title"]) == (400, "invalid_request", "Bad Request")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"connection: close" in head


def test_the_answer_has_the_errors_own_status():
    head, _, body = request_validation.response(ClientStalled("too slow")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert msgspec.json.decode(body)["detail"] == "too slow"
