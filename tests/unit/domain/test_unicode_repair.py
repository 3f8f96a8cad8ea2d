"""JSON that is not valid Unicode becomes valid, and valid JSON stays as it is."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.unicode_repair import repair_unicode


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (rb'"h\ud83d x"', "h\ufffd x"),
        (rb'"\uDE00"', "\ufffd"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (b'"h\xffi"', "h\ufffdi"),
        (b'"\xc3"', "\ufffd"),
        (b'"\xed\xa0\xbd"', "\ufffd\ufffd\ufffd"),
        (rb'"\ud83d\n"', "\ufffd\n"),
    ],
)
def test_what_is_not_unicode_is_replaced(data: bytes, text: str) -> None:
    assert msgspec.json.decode(repair_unicode(data)) == text


@given(st.text(), st.booleans())
def test_valid_json_stays_as_it_is(text: str, ascii_only: bool) -> None:
    data = json.dumps(text, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert repair_unicode(data) == data


@given(st.text(alphabet=st.characters(categories=["Cs", "L"])))
def test_any_text_becomes_decodable(text: str) -> None:
    msgspec.json.decode(repair_unicode(json.dumps(text).encode()))
