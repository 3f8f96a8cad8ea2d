"""Strict reading of the gateway's own request bodies: whatever is wrong is told with the field's name."""

import re
from difflib import get_close_matches
from itertools import takewhile
from typing import Annotated, Literal, TypeVar

import msgspec

from penstock.domain.content import Message, Text
from penstock.domain.errors import InvalidRequest

Words = Annotated[str, msgspec.Meta(min_length=1)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]

T = TypeVar("T", bound=msgspec.Struct)


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An earlier message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as `decoder` wants it. Raises InvalidRequest with the path of the field, or `body`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), decoder.type) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body must be UTF-8: {error.reason} at byte {error.start}.", param="body") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if not body.strip():
            raise InvalidRequest("The body is empty: send a JSON object.", param="body") from None
        raise InvalidRequest(f"The body is not JSON that can be read: {error}.", param="body") from None


def spoken(text: str, field: str) -> str:
    """`text`, or InvalidRequest when nothing is said in it."""
    if not text or text.isspace():
        raise InvalidRequest(f"`{field}` must not be empty.", param=field)
    return text


def chosen(model: str | None) -> str:
    """What a body's `model` means: "" leaves the choice to the gateway, `auto:…` narrows it."""
    name = (model or "").strip()
    return "" if name.lower() == "auto" else name


def conversation(system: str, history: tuple[Turn, ...] | None, message: str) -> tuple[Message, ...]:
    """The history and after it the message; `system` joins its opening, as many models take only one."""
    turns = history or ()
    opening = list(takewhile(lambda turn: turn.role == "system", turns))
    standing = "\n\n".join(text for text in (system, *(turn.content for turn in opening)) if text)
    spoken_of = [("system", standing)] if standing else []
    spoken_of += [(turn.role, turn.content) for turn in turns[len(opening) :]]
    return tuple(Message(role, (Text(text),)) for role, text in (*spoken_of, ("user", message)))


_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?P<how>contains unknown|missing required) field `(?P<field>.*)`$", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _invalid(told: str, shape: type[msgspec.Struct]) -> InvalidRequest:
    """The error in words of JSON instead of the library's."""
    place = _PLACE.match(told)
    what, path = (place["what"], place["path"] or "") if place else (told, "")
    if named := _NAMED.match(what):
        field = f"{path}.{named['field']}" if path else named["field"]
        if named["how"] == "missing required":
            return InvalidRequest(f"`{field}` is missing.", param=field)
        fields = _fields(shape, path)
        near = get_close_matches(named["field"].lower(), fields, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"the fields are {', '.join(fields)}."
        return InvalidRequest(f"`{field}` is not a field of this request: {hint}", param=field)
    if what.startswith("Invalid enum value"):
        return InvalidRequest(f"`{path}` must be one of {', '.join(_allowed(shape, path))}.", param=path)
    wrong = _QUOTED.sub(_in_words, what.removeprefix("Expected "))
    subject = f"`{path}`" if path else "The body"
    path = path or "body"
    if not what.startswith("Expected "):
        return InvalidRequest(f"{subject} is wrong: {what[:1].lower()}{what[1:]}.", param=path)
    if wrong == "text of length >= 1":
        return InvalidRequest(f"{subject} must not be empty.", param=path)
    return InvalidRequest(f"{subject} must be {wrong}.", param=path)


def _in_words(quoted: re.Match[str]) -> str:
    """`str | null` as `text`: that a field may also be null needs no saying."""
    kinds = quoted[1].split(" | ")
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds if kind != "null" or len(kinds) == 1)


def _fields(shape: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    return (Turn if path.startswith("history[") else shape).__struct_encode_fields__


def _allowed(shape: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    """The values that a field takes, found by the last name in its path."""
    name = path.rpartition(".")[2]
    for field in msgspec.structs.fields(Turn if path.startswith("history[") else shape):
        if field.encode_name == name:
            return _literals(msgspec.inspect.type_info(field.type))
    return ()


def _literals(kind: msgspec.inspect.Type) -> tuple[str, ...]:
    if isinstance(kind, msgspec.inspect.UnionType):
        return tuple(value for member in kind.types for value in _literals(member))
    return tuple(str(value) for value in kind.values) if isinstance(kind, msgspec.inspect.LiteralType) else ()
