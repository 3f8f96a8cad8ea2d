"""Repeated heads: which messages match a cached head, and which must go to the parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.http1.head_cache import CachedHead

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: penstock:8005\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nDate: Fri, 20 Nov 2026 00:00:0%d GMT\r\nAuthorization: Bearer (a+b)*[c]\r\n\r\n"
)


def message(body: bytes, second: int = 0) -> bytes:
    return HEAD % (len(body), second) + body


def cached_head(body: bytes = b"{}") -> CachedHead:
    head = CachedHead.from_message(message(body), b"%d" % len(body))
    assert head is not None
    return head


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 9))
def test_the_same_head_matches_with_any_body_and_date(first, second_body, second):
    repeated = message(second_body, second)
    at = cached_head(first).find_body(repeated)
    assert repeated[at:] == second_body
    assert repeated[:at].endswith(b"\r\n\r\n")


@given(st.binary(max_size=60), st.data())
def test_an_incomplete_message_or_one_with_more_bytes_does_not_match(body, data):
    complete = message(body)
    cut = data.draw(st.integers(0, len(complete) - 1))
    assert cached_head().find_body(complete[:cut]) == 0
    assert cached_head().find_body(complete + data.draw(st.binary(min_size=1, max_size=50))) == 0


@given(st.data())
def test_a_head_with_a_changed_byte_does_not_match(data):
    complete = message(b"{}")
    at = data.draw(st.integers(0, complete.find(b"\r\n\r\n") + 3))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != complete[at]))
    other = complete[:at] + bytes([byte]) + complete[at + 1 :]
    at_body = cached_head().find_body(other)
    if at_body:  # the date may differ, and nothing else
        date = complete.find(b"Date: ")
        assert date < at < complete.find(b"\r\n", date)
        assert 32 <= byte < 127


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 2\r\n", b"Expect: 100-continue\r\n"]
)
def test_a_head_with_one_more_line_does_not_match(line):
    at = HEAD.find(b"Authorization")
    assert cached_head().find_body((HEAD[:at] + line + HEAD[at:]) % (2, 0) + b"{}") == 0


@pytest.mark.parametrize("length", [b"+2", b"-2", b"2 ", b"0x2", b" 2", b"2, 2", b"", b"\xd9\xa2", b"9999999"])
def test_a_length_that_is_not_plain_digits_does_not_match(length):
    assert cached_head().find_body(message(b"{}").replace(b"Length: 2", b"Length: " + length)) == 0


@pytest.mark.parametrize("length", [None, b"3", b"x", b"9999999"])
def test_a_message_of_another_length_than_its_header_is_not_cached(length):
    assert CachedHead.from_message(message(b"{}"), length) is None


def test_bytes_with_a_meaning_in_regular_expressions_are_matched_literally():
    assert cached_head().find_body(message(b"{}").replace(b"(a+b)*[c]", b"aabbbbbbb")) == 0
