"""JSON request bodies, decoded by typed structs. Every mistake is an InvalidRequest whose `param` is the field's path.

A path has dots between names. A list index is another name (`messages.2.content`, as Anthropic writes it) or stands in
brackets (`messages[2].content`, as OpenAI writes it).
"""

import re
from collections.abc import Set as AbstractSet
from typing import Annotated, TypeVar

import msgspec

from penstock.domain.errors import InvalidRequest

T = TypeVar("T")
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
"""Number of tokens in a response. A server may report anything; more than this is no number of tokens."""
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]

UNREADABLE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
"""Errors of decoding or encoding a value that a caller sent: too large, nested too deeply, or not text."""

_LOCATION = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_QUOTED = re.compile(r"`([^`]*)`")
_TYPE_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESUME, _BREAK = frozenset({"resume"}), frozenset({"break"})


def decode_body(
    decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, at: str = "", *, brackets: bool = False
) -> T:
    """Decode a body, or the part of a body at the path `at`. Raises InvalidRequest.

    `brackets` writes list indices in brackets.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid_value(error, at, brackets=brackets) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(describe_syntax_error(error, body), param=at or None) from None


def create_unreadable_error(error: Exception) -> InvalidRequest:
    """Return the error for a body whose value raised one of UNREADABLE_ERRORS where no dialect expected it."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply. Send a flatter one.")
    if isinstance(error, UnicodeError):
        return InvalidRequest("A text in the body is not valid Unicode. Send JSON in UTF-8.")
    return InvalidRequest(f"A value in the body cannot be read: {error}.")


def describe_syntax_error(error: Exception, body: bytes | msgspec.Raw) -> str:
    """Return the message for a body that is not JSON: `error` is a decode error other than a ValidationError."""
    if isinstance(error, RecursionError):
        return "The body is nested too deeply. Send a flatter one."
    if isinstance(error, UnicodeDecodeError):
        return f"The body is not valid UTF-8 (byte {_find_invalid_byte(bytes(body))}). Send JSON in UTF-8."
    if not bytes(body).strip():
        return "The body is empty. Send a JSON object."
    return f"The body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}."


def split_location(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split msgspec's message into the reason and the field's path (with brackets), "" for the body itself."""
    match = _LOCATION.match(str(error))
    return (match["reason"], match["path"] or "") if match else (str(error), "")


def describe_invalid_value(reason: str) -> str:
    """Turn msgspec's reason into the end of a sentence, with names of JSON types instead of Python's."""
    if reason.startswith("Invalid "):
        return "has an " + reason.replace("Invalid enum value", "Invalid value").replace("Invalid ", "invalid ", 1)
    if not reason.startswith("Expected "):
        return f"is invalid: {reason[0].lower()}{reason[1:]}"
    expected = _QUOTED.sub(_name_json_type, reason.removeprefix("Expected ")).replace(", got ", ", not ")
    return "must not be empty" if expected == "text of length >= 1" else f"must be {expected}"


def field_error(path: str, reason: str) -> InvalidRequest:
    """Return the error for a field with an unusable value; `reason` follows the path, without a full stop."""
    return InvalidRequest(f"`{path}` {reason}.", param=path)


def missing_field(path: str) -> InvalidRequest:
    """Return the error for a required field that is missing."""
    return InvalidRequest(f"`{path}` is missing. Add this required field.", param=path)


def collect_unknown_fields(body: bytes, known: AbstractSet[str]) -> tuple[tuple[str, bytes], ...]:
    """Return the fields of an object that are not in `known`, as (name, JSON). Null values are left out."""
    fields = _object_decoder.decode(body)
    if fields.keys() <= known:
        return ()
    unknown = ((name, bytes(value)) for name, value in fields.items() if name not in known)
    return tuple((name, value) for name, value in unknown if value != b"null")


def pop_resume_flag(body: bytes, may_resume: bool) -> tuple[bytes, frozenset[str]]:
    """Return the body without `resume`, a field that only the gateway knows, and the field's value as a flag.

    `resume`: another server may continue a stream whose server fails. `break`: none may, whatever the settings say.
    """
    fields = decode_body(_object_decoder, body)
    return msgspec.json.encode({name: value for name, value in fields.items() if name != "resume"}), (
        _RESUME if may_resume else _BREAK
    )


def decode_last_object(tail: bytes, key: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """Decode the last JSON object under `key` (with its quotes). Null, incomplete and invalid objects are skipped.

    The key cannot occur inside generated text, where quotes are escaped. The object must not contain texts with braces.
    """
    at = len(tail)
    while (at := tail.rfind(key, 0, at)) >= 0:
        start = at + len(key)
        if tail[start : start + 8].lstrip(b": \t\r\n")[:1] != b"{":
            continue
        start = end = tail.index(b"{", start)
        while (end := tail.find(b"}", end) + 1) > 0:
            if tail.count(b"{", start, end) == tail.count(b"}", start, end):
                break
        else:
            continue
        try:
            return decoder.decode(tail[start:end])
        except msgspec.DecodeError:
            continue
    return None


def _invalid_value(error: msgspec.ValidationError, at: str, *, brackets: bool) -> InvalidRequest:
    reason, path = split_location(error)
    if not brackets:
        path = re.sub(r"\[(\d+)\]", r".\1", path).replace("[...]", "").lstrip(".")
    path = f"{at}.{path}".strip(".")
    if missing := _MISSING.match(reason):
        return missing_field(f"{path}.{missing['field']}".lstrip("."))
    return InvalidRequest(
        f"{f'`{path}`' if path else 'The body'} {describe_invalid_value(reason)}.", param=path or None
    )


def _find_invalid_byte(body: bytes) -> int:
    """Return the index of the first byte that is not UTF-8. msgspec counts from the start of the text it decodes."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _name_json_type(quoted: re.Match[str]) -> str:
    """Replace `str | null` by `text`. Null is mentioned only if it stands alone."""
    types = quoted[1].split(" | ")
    return " or ".join(_TYPE_NAMES.get(name, name) for name in types if name != "null" or len(types) == 1)
