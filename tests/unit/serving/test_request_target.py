"""Request targets in the form in which routes are looked up."""

import pytest

from penstock.serving.request_target import normalize_slashes, split_absolute_target


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://box:8005/v1/models?x=1", (b"box:8005", b"/v1/models?x=1")),
        (b"HTTPS://box", (b"box", b"/")),
        (b"http://box?x", (b"box", b"/?x")),
        (b"/v1/models", None),
        (b"*", None),
        (b"ftp://box/x", None),
    ],
)
def test_absolute_targets_are_split(target: bytes, parts: tuple[bytes, bytes] | None):
    assert split_absolute_target(target) == parts


@pytest.mark.parametrize(
    ("target", "normalized"),
    [
        (b"//api/chat", b"/api/chat"),
        (b"/v1//models/?a=//", b"/v1/models?a=//"),
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/v1/models", b"/v1/models"),
    ],
)
def test_needless_slashes_are_dropped(target: bytes, normalized: bytes):
    assert normalize_slashes(target) == normalized
