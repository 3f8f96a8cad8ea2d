"""Lenient decoding of what servers send: one odd field does not make the rest of a response unreadable."""

import re
from typing import Any, Generic, TypeVar

import msgspec

from penstock.domain.unicode_repair import repair_unicode

T = TypeVar("T")

_MAX_REPAIRS = 32
_PATH = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
# The content itself: a response in which it is odd cannot be read, and dropping it would change the text in silence.
_ESSENTIAL = frozenset(
    {
        *("choices", "delta", "message", "content", "text", "response", "tool_calls", "function", "arguments"),
        *("data", "embedding", "embeddings"),
    }
)


class LenientDecoder(Generic[T]):
    """Decoder of one type for JSON that a strict decoder has rejected.

    Invalid Unicode becomes U+FFFD, numbers may be texts, and a field of the wrong type is left out unless it is the
    content itself. `essential` are further fields that are never left out.
    """

    def __init__(self, type_: type[T], essential: frozenset[str] = frozenset()) -> None:
        self._decode = msgspec.json.Decoder(type_, strict=False).decode
        self._essential = _ESSENTIAL | essential

    def decode(self, data: bytes) -> T:
        """Decode an object. Raises DecodeError, ValidationError or RecursionError where nothing can be repaired."""
        value = msgspec.json.decode(repair_unicode(data))
        repairs = 0
        while True:
            try:
                return self._decode(msgspec.json.encode(value))
            except msgspec.ValidationError as error:
                repairs += 1
                if repairs > _MAX_REPAIRS or not self._drop_field(value, str(error)):
                    raise

    def _drop_field(self, value: Any, message: str) -> bool:
        """Remove the field that the message names; return False where it must stay."""
        location = _PATH.search(message)
        if location is None:
            return False
        parent: Any = None
        key: str | int = ""
        for step in _STEP.finditer(location[1]):
            if step[0] == "[...]":
                break  # an item of a map: the map is left out
            parent = value
            key = step[1] or int(step[2])
            value = value[key]
        if isinstance(parent, list) and value is None:
            del parent[int(key)]
            return True
        if not isinstance(parent, dict) or key in self._essential:
            return False
        del parent[key]
        return True
