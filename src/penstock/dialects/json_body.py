"""Reading JSON bodies by typed structs: whatever is wrong is an InvalidRequest whose `param` is the field's path.

Paths are written with dots, list positions too: `messages.2.content.0.source`.
"""

import re
from collections.abc import Collection
from typing import TypeVar

import msgspec

from penstock.domain.errors import InvalidRequest

T = TypeVar("T")

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESUME, _BREAK = frozenset({"resume"}), frozenset({"break"})


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, at: str = "") -> T:
    """Decode a body, or the part of one that stands at the path `at`; raises InvalidRequest."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), at) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: {error.reason}. Send JSON in UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply. Send a flatter one.", param=at or None) from None
    except msgspec.DecodeError as error:
        if not bytes(body).strip():
            raise InvalidRequest("The body is empty. Send a JSON object.") from None
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param=at or None) from None


def check_text(body: bytes) -> None:
    """Raise InvalidRequest when a body is not UTF-8: decoders do not look inside what they skip."""
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: {error.reason}. Send JSON in UTF-8.") from None


def other_fields(body: bytes, known: Collection[str]) -> tuple[tuple[str, bytes], ...]:
    """The fields of an object that are not `known` and not null, as (name, JSON)."""
    fields = ((name, bytes(value)) for name, value in decode_body(_FIELDS, body).items() if name not in known)
    return tuple((name, value) for name, value in fields if value != b"null")


def pop_resume_flag(body: bytes, wanted: bool) -> tuple[bytes, frozenset[str]]:
    """The body without `resume`, which is a word of the gateway's, and what it says as a flag.

    `resume`: a stream whose server dies may go on on another; `break`: it may not, whatever the settings say.
    """
    fields = decode_body(_FIELDS, body)
    return msgspec.json.encode({name: value for name, value in fields.items() if name != "resume"}), (
        _RESUME if wanted else _BREAK
    )


def wrong(param: str, reason: str) -> InvalidRequest:
    """The error for a field that has the right type but makes no sense; `reason` says what to do."""
    return InvalidRequest(f"{param}: {reason}", param=param)


def last_object(tail: bytes, name: str) -> bytes:
    """The JSON object that the last field called `name` holds, b"" when there is none or it is torn.

    A quote inside a JSON text is escaped, so generated text cannot be taken for a field.
    """
    key = b'"' + name.encode() + b'"'
    at = len(tail)
    while (at := tail.rfind(key, 0, at)) >= 0:
        start = at + len(key)
        while tail[start : start + 1] in (b" ", b":", b"\t"):
            start += 1
        if tail[start : start + 1] == b"{":
            return _object(tail, start)
    return b""


def _object(text: bytes, start: int) -> bytes:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        match token.group():
            case b"{":
                depth += 1
            case b"}":
                depth -= 1
        if depth == 0:
            return text[start : token.end()]
    return b""


def _wrong(told: str, at: str) -> InvalidRequest:
    place = _PLACE.match(told)
    what, path = (place["what"], place["path"] or "") if place else (told, "")
    path = re.sub(r"\[(\d+)\]", r".\1", path).replace("[...]", "").lstrip(".")
    path = f"{at}.{path}".strip(".")
    if missing := _MISSING.match(what):
        path = f"{path}.{missing['field']}".lstrip(".")
        return InvalidRequest(f"{path}: field required", param=path)
    return InvalidRequest(f"{path}: {what[0].lower()}{what[1:]}" if path else f"The body: {what}", param=path or None)
