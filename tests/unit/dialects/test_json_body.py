"""Decoding of JSON bodies: messages and paths of errors, unknown fields, and the last object of a stream."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.json_body import (
    PositiveInt,
    collect_unknown_fields,
    decode_body,
    decode_last_object,
    field_error,
)
from penstock.domain.errors import InvalidRequest


class Item(msgspec.Struct):
    text: str
    kind: Literal["a", "b"] = "a"


class Body(msgspec.Struct):
    items: list[Item]
    name: str | None = None
    count: PositiveInt = 1
    title: Annotated[str, msgspec.Meta(min_length=1)] = "t"
    raw: dict[str, int] | None = None


DECODER = msgspec.json.Decoder(Body)
OBJECT = msgspec.json.Decoder(dict[str, int])


def get_error(body: bytes, at: str = "", *, brackets: bool = False) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(DECODER, body, at, brackets=brackets)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", None, "The body is empty. Send a JSON object."),
        (b" \n", None, "The body is empty. Send a JSON object."),
        (b"[]", None, "The body must be an object, not a list."),
        (b"null", None, "The body must be an object, not null."),
        (b"{", None, "The body is not valid JSON: Input data was truncated."),
        (b"hello", None, "The body is not valid JSON: invalid character (byte 0)."),
        (b'{"items":[],"name":"\xff"}', None, "The body is not valid UTF-8 (byte 20). Send JSON in UTF-8."),
        (b"{}", "items", "`items` is missing. Add this required field."),
        (b'{"items":[{}]}', "items.0.text", "`items.0.text` is missing. Add this required field."),
        (b'{"items":[{"text":1}]}', "items.0.text", "`items.0.text` must be text, not a whole number."),
        (
            b'{"items":[{"text":"","kind":"c"}]}',
            "items.0.kind",
            "`items.0.kind` has an invalid value 'c'.",
        ),
        (b'{"items":[],"name":[]}', "name", "`name` must be text, not a list."),
        (b'{"items":[],"count":0}', "count", "`count` must be a whole number >= 1."),
        (b'{"items":[],"count":1.5}', "count", "`count` must be a whole number, not a number."),
        (b'{"items":[],"title":""}', "title", "`title` must not be empty."),
        (b'{"items":[],"raw":{"x":true}}', "raw", "`raw` must be a whole number, not true or false."),
    ],
)
def test_an_error_is_a_sentence_and_names_the_field(body: bytes, param: str | None, message: str) -> None:
    error = get_error(body)
    assert (error.param, error.message) == (param, message)


def test_a_body_that_is_nested_too_deeply_is_an_error_of_its_own() -> None:
    error = get_error(b'{"unknown":' + b"[" * 100_000)
    assert error.message == "The body is nested too deeply. Send a flatter one."


def test_list_indices_can_stand_in_brackets() -> None:
    assert get_error(b'{"items":[{}]}', brackets=True).param == "items[0].text"


def test_the_path_of_a_part_starts_with_the_path_of_the_part() -> None:
    assert get_error(b'{"items":[{}]}', "input.2").param == "input.2.items.0.text"


def test_a_field_error_has_the_path_as_its_param() -> None:
    error = field_error("tools.0.name", "must be short")
    assert (error.param, error.message) == ("tools.0.name", "`tools.0.name` must be short.")


def test_unknown_fields_are_kept_as_json_except_null() -> None:
    body = b'{"a": 1, "b": [1,  2], "c": null, "d": "x"}'
    assert collect_unknown_fields(body, {"a"}) == (("b", b"[1,  2]"), ("d", b'"x"'))
    assert collect_unknown_fields(body, {"a", "b", "c", "d", "e"}) == ()


@pytest.mark.parametrize(
    ("tail", "value"),
    [
        (b'{"usage":{"n":1}}', {"n": 1}),
        (b'{"usage" : {"n":1}}\n{"usage":\t{"n":2}}\n', {"n": 2}),
        (b'"usage":{"n":1} "usage":null', {"n": 1}),
        (b'"usage":{"n":1} "usage":{"n":', {"n": 1}),
        (b'"usage":{"n":1} "usage":{"n":"text"}', {"n": 1}),
        (b'{"text":"\\"usage\\":{\\"n\\":1}"}', None),
        (b'"usage":', None),
        (b"", None),
    ],
)
def test_the_last_complete_object_under_a_key_is_decoded(tail: bytes, value: object) -> None:
    assert decode_last_object(tail, b'"usage"', OBJECT) == value


@given(st.text(), st.dictionaries(st.text("abc"), st.integers(0, 9)), st.text())
def test_generated_text_is_never_taken_for_a_field(before: str, usage: dict[str, int], after: str) -> None:
    tail = msgspec.json.encode({"before": before, "usage": usage, "after": after + '"usage":{"x":1}'})
    assert decode_last_object(tail, b'"usage"', OBJECT) == usage
