"""Parsing of chat requests for routing, and the errors for invalid ones."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.chat.endpoints import ChatEndpoint
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Operation

CHAT = ChatEndpoint()
HI = b'"messages":[{"role":"user","content":"hi"}]'


def parse(body: bytes):
    return CHAT.parse_request(body, b"application/json")


def test_a_small_request_is_parsed() -> None:
    body = b'{"model":"tiny","stream":true,"max_tokens":7,' + HI + b"}"
    call = parse(body)
    assert (call.wire, call.operation, call.model, call.stream) == ("openai.chat", Operation.CHAT, "tiny", True)
    assert call.body is body
    assert call.max_tokens == 7
    assert call.flags == frozenset()
    assert call.kinds == ()


@pytest.mark.parametrize("model", [b"", b'"model":null,', b'"model":"",'])
def test_a_missing_model_is_an_empty_name(model: bytes) -> None:
    assert parse(b"{" + model + HI + b"}").model == ""


@pytest.mark.parametrize(
    ("field", "stream"),
    [(b"", False), (b'"stream":false,', False), (b'"stream":null,', False), (b'"stream":true,', True)],
)
def test_stream_is_read(field: bytes, stream: bool) -> None:
    assert parse(b"{" + field + HI + b"}").stream is stream


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (b"", set()),
        (b'"stream_options":null,', set()),
        (b'"stream_options":{},', set()),
        (b'"stream_options":{"include_usage":false},', set()),
        (b'"stream_options":{"include_usage":null},', set()),
        (b'"stream_options":{"include_usage":true},', {"usage"}),
        (b'"stream_options":{"include_usage":true,"include_obfuscation":false},', {"usage"}),
        (b'"functions":[{"name":"f"}],', {"functions"}),
        (b'"functions":[{"name":"f"}],"stream_options":{"include_usage":true},', {"usage", "functions"}),
    ],
)
def test_fields_that_the_renderer_needs_are_kept(options: bytes, flags: set[str]) -> None:
    assert parse(b"{" + options + HI + b"}").flags == flags


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        (b"", None),
        (b'"max_tokens":5,', 5),
        (b'"max_completion_tokens":6,', 6),
        (b'"max_tokens":5,"max_completion_tokens":6,', 6),
        (b'"max_tokens":5,"max_completion_tokens":null,', 5),
        (b'"max_tokens":-1,', -1),
    ],
)
def test_the_newer_name_of_the_token_limit_wins(fields: bytes, limit: int | None) -> None:
    assert parse(b"{" + fields + HI + b"}").max_tokens == limit


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "is empty"),
        (b"   ", None, "is empty"),
        (b"nope", None, "not valid JSON"),
        (b'{"model":', None, "not valid JSON"),
        (b'{"model":"m",' + HI, None, "not valid JSON"),
        (b"{" + HI + b"} {}", None, "not valid JSON"),
        (b"{" + HI + b",}", None, "not valid JSON"),
        (b"\xef\xbb\xbf{" + HI + b"}", None, "not valid JSON"),
        (b"[]", None, "must be an object"),
        (b"3", None, "must be an object"),
        (b'"text"', None, "must be an object"),
        (b"null", None, "must be an object"),
        (b"true", None, "must be an object"),
        (b"{}", "messages", "missing"),
        (b'{"model":"m"}', "messages", "missing"),
        (b'{"messages":null}', "messages", "at least one message"),
        (b'{"messages":[]}', "messages", "at least one message"),
        (b'{"messages":[  ]}', "messages", "at least one message"),
        (b'{"messages":[\n\t]}', "messages", "at least one message"),
        (b'{"messages":[' + b" " * 200 + b"]}", "messages", "at least one message"),
        (b'{"messages":{}}', "messages", "at least one message"),
        (b'{"messages":"hi"}', "messages", "at least one message"),
        (b'{"messages":3}', "messages", "at least one message"),
        (b'{"model":3,' + HI + b"}", "model", "must be text"),
        (b'{"model":["m"],' + HI + b"}", "model", "must be text"),
        (b'{"model":{},' + HI + b"}", "model", "must be text"),
        (b'{"model":true,' + HI + b"}", "model", "must be text"),
        (b'{"stream":1,' + HI + b"}", "stream", "must be true or false"),
        (b'{"stream":"true",' + HI + b"}", "stream", "must be true or false"),
        (b'{"max_tokens":"5",' + HI + b"}", "max_tokens", "must be a whole number"),
        (b'{"max_tokens":1.5,' + HI + b"}", "max_tokens", "must be a whole number"),
        (b'{"max_tokens":true,' + HI + b"}", "max_tokens", "must be a whole number"),
        (b'{"max_completion_tokens":[],' + HI + b"}", "max_completion_tokens", "must be a whole number"),
        (b'{"stream_options":true,' + HI + b"}", "stream_options", "must be an object"),
        (
            b'{"stream_options":{"include_usage":"yes"},' + HI + b"}",
            "stream_options.include_usage",
            "must be true or false",
        ),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + HI + b"}", None, "nested too deeply"),
        (b'{"messages":' + b"[" * 100_000, None, "nested too deeply"),
        (b'{"x":"\\q",' + HI + b"}", None, "not valid JSON"),
        (b'{"x":"a\nb",' + HI + b"}", None, "not valid JSON"),
        (b'{"x":01,' + HI + b"}", None, "not valid JSON"),
        (b'{"x":NaN,' + HI + b"}", None, "not valid JSON"),
    ],
)
def test_a_bad_body_is_refused_with_its_field(body: bytes, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.param == param
    assert words in caught.value.message
    assert caught.value.status == 400


@pytest.mark.parametrize("space", [b" ", b"\n", b" \t\r\n "])
def test_space_around_the_messages_is_allowed(space: bytes) -> None:
    assert parse(b'{"messages":' + space + b"[" + space + b'{"role":"user","content":"hi"}]}').model == ""


def test_a_short_list_of_one_message_is_not_taken_for_an_empty_one() -> None:
    assert parse(b'{"messages":[1]}').operation is Operation.CHAT


def test_other_scripts_pass_unchanged() -> None:
    body = '{"model":"модель","messages":[{"role":"user","content":"Привет 🙂"}]}'.encode()
    assert parse(body).model == "модель"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_an_error(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert parse(body).operation is Operation.CHAT


@given(st.text(max_size=300), st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_model_name_is_parsed_unchanged(text: str, model: str) -> None:
    body = msgspec.json.encode({"x": text.encode("utf-8", "replace").decode(), "model": model, "messages": [{}]})
    assert parse(body).model == model
