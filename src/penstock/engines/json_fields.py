"""JSON from and for model servers: tolerant decoding, and fields that a request may leave out."""

from typing import Any

import msgspec

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of `msgspec.json.decode` on input that is not valid JSON."""

UNSET_VALUES = frozenset({b"null", b"false", b"{}", b"[]", b'""'})
"""JSON values of an optional field that request nothing: the field may be left out."""


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object; return an empty one for anything else."""
    try:
        value = msgspec.json.decode(body)
    except DECODE_ERRORS:
        return {}
    return value if isinstance(value, dict) else {}


def as_object(value: object) -> dict[str, Any]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str:
    """Return `value` if it is text, else an empty string."""
    return value if isinstance(value, str) else ""
