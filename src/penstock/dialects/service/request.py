"""Strict decoding of the gateway's own request bodies. Every error names the field."""

import re
from difflib import get_close_matches
from itertools import takewhile
from typing import Annotated, Literal, TypeVar

import msgspec

from penstock.dialects.json_body import describe_invalid_value, describe_syntax_error, missing_field, split_location
from penstock.domain.content import Message, Text
from penstock.domain.errors import InvalidRequest
from penstock.domain.unicode_repair import repair_unicode

NonEmptyText = Annotated[str, msgspec.Meta(min_length=1)]
TokenLimit = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]

T = TypeVar("T", bound=msgspec.Struct)


class HistoryMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An earlier message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body. Raises InvalidRequest whose `param` is the path of the field, or `body`."""
    try:
        return decoder.decode(repair_unicode(body))
    except msgspec.ValidationError as error:
        raise _invalid_value(error, decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(describe_syntax_error(error, body), param="body") from None


def check_not_blank(text: str, field: str) -> None:
    """Raise InvalidRequest if `text` is empty or white space."""
    if not text or text.isspace():
        raise InvalidRequest(f"`{field}` must not be empty.", param=field)


def parse_model(model: str | None) -> str:
    """Return the model's name: "" leaves the choice to the gateway, `auto:…` restricts it."""
    name = (model or "").strip()
    return "" if name.lower() == "auto" else name


def build_messages(system: str, history: tuple[HistoryMessage, ...] | None, message: str) -> tuple[Message, ...]:
    """Return the history followed by the message.

    `system` and the history's leading system messages are joined, as many models accept only one.
    """
    earlier = history or ()
    leading = list(takewhile(lambda item: item.role == "system", earlier))
    system_text = "\n\n".join(text for text in (system, *(item.content for item in leading)) if text)
    messages = [("system", system_text)] if system_text else []
    messages += [(item.role, item.content) for item in earlier[len(leading) :]]
    return tuple(Message(role, (Text(text),)) for role, text in (*messages, ("user", message)))


_FIELD = re.compile(r"^Object (?P<problem>contains unknown|missing required) field `(?P<field>.*)`$", re.DOTALL)


def _invalid_value(error: msgspec.ValidationError, struct: type[msgspec.Struct]) -> InvalidRequest:
    """Return the error, with the names of similar fields and the allowed values where they help."""
    reason, path = split_location(error)
    if match := _FIELD.match(reason):
        field = f"{path}.{match['field']}" if path else match["field"]
        if match["problem"] == "missing required":
            return missing_field(field)
        fields = _list_fields(struct, path)
        similar = get_close_matches(match["field"].lower(), fields, n=1, cutoff=0.5)
        hint = f"Did you mean `{similar[0]}`?" if similar else f"The fields are {', '.join(fields)}."
        return InvalidRequest(f"`{field}` is not a field of this request. {hint}", param=field)
    if reason.startswith("Invalid enum value"):
        return InvalidRequest(f"`{path}` must be one of {', '.join(_list_allowed_values(struct, path))}.", param=path)
    subject = f"`{path}`" if path else "The body"
    return InvalidRequest(f"{subject} {describe_invalid_value(reason)}.", param=path or "body")


def _list_fields(struct: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    return (HistoryMessage if path.startswith("history[") else struct).__struct_encode_fields__


def _list_allowed_values(struct: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    """Return the allowed values of a field, which is found by the last name in its path."""
    name = path.rpartition(".")[2]
    for field in msgspec.structs.fields(HistoryMessage if path.startswith("history[") else struct):
        if field.encode_name == name:
            return _list_literals(msgspec.inspect.type_info(field.type))
    return ()


def _list_literals(kind: msgspec.inspect.Type) -> tuple[str, ...]:
    if isinstance(kind, msgspec.inspect.UnionType):
        return tuple(value for member in kind.types for value in _list_literals(member))
    return tuple(str(value) for value in kind.values) if isinstance(kind, msgspec.inspect.LiteralType) else ()
