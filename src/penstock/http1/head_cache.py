"""Cache for repeated message heads.

A client that keeps its connection open sends the same head with every request, and a model server sends the same head
with every response, except for Content-Length and Date. A head that the parser has accepted once need not be parsed
again: matching a known head costs about a quarter of parsing it, most of which are the parser's callbacks.
"""

import re

_VARIABLE_VALUE = re.compile(rb"(?<=\r\n)(content-length|date):[ \t]*([^\r\n]+?)(?=[ \t]*\r\n)", re.IGNORECASE)
_LENGTH_PATTERN = rb"([0-9]{1,6})"
_DATE_PATTERN = rb"[ -~]{8,40}"
_HEAD_END = b"\r\n\r\n"


class CachedHead:
    """A parsed head as a regular expression in which only the values of Content-Length and Date may vary.

    It is used only for messages that have a Content-Length and arrived complete in one piece. The parser must see the
    beginning of all others, because it has to parse the rest.
    """

    __slots__ = ("match",)

    def __init__(self, head: bytes) -> None:
        parts, start = [], 0
        for variable in _VARIABLE_VALUE.finditer(head):
            pattern = _LENGTH_PATTERN if variable[1].lower() == b"content-length" else _DATE_PATTERN
            parts += [re.escape(head[start : variable.start(2)]), pattern]
            start = variable.end(2)
        self.match = re.compile(b"".join((*parts, re.escape(head[start:])))).match

    @classmethod
    def from_message(cls, message: bytes, length: bytes | None) -> "CachedHead | None":
        """Return the head of a message that the parser accepted; `length` is the value of its Content-Length.

        Return None if the message is not exactly one head with one complete body.
        """
        end = message.find(_HEAD_END) + len(_HEAD_END)
        if length is None or not length.isdigit() or len(length) > 6 or len(message) - end != int(length):
            return None
        cached = cls(message[:end])
        return cached if cached.find_body(message) == end else None

    def find_body(self, message: bytes) -> int:
        """Return the index of the body if `message` is this head with one complete body and nothing more, else 0."""
        match = self.match(message)
        if match is None:
            return 0
        end = match.end()
        return end if len(message) - end == int(match[1]) else 0
