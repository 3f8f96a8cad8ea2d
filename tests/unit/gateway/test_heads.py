"""Heads that come again: what counts as the same head, and what must go to the parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.http1.head_cache import KnownHead

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: penstock:8005\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nDate: Fri, 20 Nov 2026 00:00:0%d GMT\r\nAuthorization: Bearer (a+b)*[c]\r\n\r\n"
)


def message(body: bytes, second: int = 0) -> bytes:
    return HEAD % (len(body), second) + body


def known(body: bytes = b"{}") -> KnownHead:
    head = KnownHead.learn(message(body), b"%d" % len(body))
    assert head is not None
    return head


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 9))
def test_the_same_head_is_known_whatever_the_body_and_the_second(first, then, second):
    again = message(then, second)
    at = known(first).body_at(again)
    assert again[at:] == then
    assert again[:at].endswith(b"\r\n\r\n")


@given(st.binary(max_size=60), st.data())
def test_a_message_that_is_not_whole_or_not_alone_is_not_known(body, data):
    whole = message(body)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert known().body_at(whole[:cut]) == 0
    assert known().body_at(whole + data.draw(st.binary(min_size=1, max_size=50))) == 0


@given(st.data())
def test_a_head_with_any_other_byte_is_not_known(data):
    whole = message(b"{}")
    at = data.draw(st.integers(0, whole.find(b"\r\n\r\n") + 3))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    other = whole[:at] + bytes([byte]) + whole[at + 1 :]
    found = known().body_at(other)
    if found:  # the date may differ, and nothing else
        date = whole.find(b"Date: ")
        assert date < at < whole.find(b"\r\n", date)
        assert 32 <= byte < 127


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 2\r\n", b"Expect: 100-continue\r\n"]
)
def test_a_line_more_makes_it_another_head(line):
    at = HEAD.find(b"Authorization")
    assert known().body_at((HEAD[:at] + line + HEAD[at:]) % (2, 0) + b"{}") == 0


@pytest.mark.parametrize("length", [b"+2", b"-2", b"2 ", b"0x2", b" 2", b"2, 2", b"", b"\xd9\xa2", b"9999999"])
def test_a_length_that_is_no_plain_number_is_not_known(length):
    assert known().body_at(message(b"{}").replace(b"Length: 2", b"Length: " + length)) == 0


@pytest.mark.parametrize("told", [None, b"3", b"x", b"9999999"])
def test_a_message_of_another_length_than_told_is_not_learnt(told):
    assert KnownHead.learn(message(b"{}"), told) is None


def test_a_head_with_bytes_that_mean_something_in_patterns_is_taken_literally():
    assert known().body_at(message(b"{}").replace(b"(a+b)*[c]", b"aabbbbbbb")) == 0
