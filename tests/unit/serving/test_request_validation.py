"""Validation of request heads, and the error response to a request of no dialect."""

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
def test_one_host_and_plain_framing_are_accepted(before, after):
    request_validation.check_head("1.1", [*before, HOST, *after])
    request_validation.check_head("1.1", [*before, CHUNKED, HOST, *after])
    request_validation.check_head("1.0", [*before, *after])


@given(others, st.lists(st.sampled_from([b"a", b"b", b""]), min_size=2, max_size=4))
def test_several_hosts_are_rejected(lines, values):
    for version in ("1.1", "1.0"):
        with pytest.raises(InvalidRequest, match="one Host"):
            request_validation.check_head(version, [*lines, *((b"host", value) for value in values)])


@given(others)
def test_a_missing_host_is_rejected_in_http_1_1(lines):
    with pytest.raises(InvalidRequest, match="one Host"):
        request_validation.check_head("1.1", lines)


@given(others, st.binary(max_size=20).filter(lambda value: value.strip().lower() != b"chunked"))
def test_a_transfer_coding_other_than_chunked_is_rejected(lines, coding):
    with pytest.raises(InvalidRequest, match="chunked"):
        request_validation.check_head("1.1", [HOST, *lines, (b"transfer-encoding", coding)])


@given(st.integers(2, 4))
def test_chunked_more_than_once_is_rejected(times):
    with pytest.raises(InvalidRequest, match="once"):
        request_validation.check_head("1.1", [HOST, *[CHUNKED] * times])


def test_chunked_in_http_1_0_is_rejected():
    with pytest.raises(InvalidRequest, match=r"HTTP/1\.1"):
        request_validation.check_head("1.0", [HOST, CHUNKED])


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0", ""])
def test_other_http_versions_are_rejected(version: str):
    with pytest.raises(InvalidRequest, match=r"speaks HTTP/1\.1"):
        request_validation.check_head(version, [HOST])


@given(st.integers(0, 200_000))
def test_the_size_of_a_head_counts_all_its_lines(size):
    lines = [(b"x" * 10, b"y" * 100)] * (size // 114)
    if size // 114 * 114 + 5 > MAX_HEAD_BYTES:
        with pytest.raises(InvalidRequest, match="over 65536 bytes"):
            request_validation.check_head_size(b"/path", lines)
    else:
        request_validation.check_head_size(b"/path", lines)


def test_an_upgrade_is_removed_and_the_rest_is_kept():
    lines = [HOST, (b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMA")]
    head = request_validation.render_without_upgrade(b"POST", b"/v1/x?y", [*lines, (b"content-length", b"5")])
    assert head == b"POST /v1/x?y HTTP/1.1\r\nhost: a.local\r\ncontent-length: 5\r\n\r\n"


def test_removing_an_upgrade_keeps_connection_close():
    head = request_validation.render_without_upgrade(
        b"GET", b"/", [HOST, (b"upgrade", b"h2c"), (b"connection", b"upgrade, close")]
    )
    assert b"connection: close\r\n" in head


@pytest.mark.parametrize("lines", [[HOST], [HOST, (b"connection", b"upgrade"), (b"upgrade", b"WebSocket")]])
def test_a_head_without_upgrade_or_with_websocket_is_not_rendered_again(lines: list[tuple[bytes, bytes]]):
    assert request_validation.render_without_upgrade(b"GET", b"/ws", lines) == b""


def test_a_websocket_upgrade_of_a_post_is_removed():
    assert request_validation.render_without_upgrade(b"POST", b"/ws", [HOST, (b"upgrade", b"websocket")])


@given(st.text(max_size=100))
def test_the_error_response_is_json_whatever_the_message(message):
    head, _, body = request_validation.render_error_response(InvalidRequest(message)).partition(b"\r\n\r\n")
    problem = msgspec.json.decode(body)
    assert (problem["status"], problem["code"], problem["title"]) == (400, "invalid_request", "Bad Request")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"connection: close" in head


def test_the_error_response_has_the_status_of_the_error():
    head, _, body = request_validation.render_error_response(ClientStalled("too slow")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert msgspec.json.decode(body)["detail"] == "too slow"
