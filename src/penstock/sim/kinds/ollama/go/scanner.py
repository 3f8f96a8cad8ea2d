"""First JSON value of a body, parsed as Go's encoding/json parses it.

With its syntax errors, its limit of depth, and U+FFFD for what is not UTF-8. It is iterative, because Go accepts a
depth of 10,000, and is used where msgspec fails.
"""

import codecs
import re
from typing import Any, Self

_MAX_DEPTH = 10_000
_MAX_INTEGER_DIGITS = 4000  # more are slow to parse, and Python refuses them
_SPACE = b" \t\r\n"
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[int, tuple[bytes, bool | None]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_DIGITS = b"0123456789"
_UNPRINTABLE = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 92: "\\\\"}


class BadBodyError(ValueError):
    """The body does not match the struct; the message is Go's."""


class Float(float):
    """A number with a fraction or an exponent, and its text, which Go's errors quote."""

    text: str

    def __new__(cls, text: str) -> Self:
        value = super().__new__(cls, text)
        value.text = text
        return value


def parse_first_value(body: bytes) -> Any:
    """Parse the first JSON value of a body and ignore what follows. Raises BadBodyError."""
    scanner = _Scanner(body)
    scanner.skip_space()
    if scanner.at >= len(body):
        raise BadBodyError("missing request body")
    return scanner.scan_value()


def decode_utf8(data: bytes) -> str:
    """Decode UTF-8; each byte that is not part of it becomes U+FFFD, as in Go."""
    return data.decode("utf-8", "go-replace")


def _replace_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("go-replace", _replace_bytes)


class _Scanner:
    """Position in a body, and the containers that are open there."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def skip_space(self) -> None:
        body = self.body
        while self.at < len(body) and body[self.at] in _SPACE:
            self.at += 1

    def peek_byte(self) -> int:
        """Return the next byte. Raises BadBodyError at the end of the body."""
        if self.at >= len(self.body):
            raise BadBodyError("unexpected EOF")
        return self.body[self.at]

    def build_error(self, context: str) -> BadBodyError:
        """Build the error for the byte at the current position."""
        byte = self.peek_byte()
        if byte in _UNPRINTABLE:
            sign = _UNPRINTABLE[byte]
        elif byte == ord("'"):
            sign = "\\'"
        else:
            sign = chr(byte) if chr(byte).isprintable() else f"\\x{byte:02x}" if byte < 128 else f"\\u{byte:04x}"
        return BadBodyError(f"invalid character '{sign}' {context}")

    def scan_value(self) -> Any:
        """Scan a value with all that it contains."""
        open_values: list[dict[str, Any] | list[Any]] = []
        keys: list[str] = []
        while True:
            self.skip_space()
            byte = self.peek_byte()
            if byte in b"{[":
                if len(open_values) >= _MAX_DEPTH:
                    raise self.build_error("exceeded max depth")
                self.at += 1
                opened: dict[str, Any] | list[Any] = {} if byte == ord("{") else []
                if not self._closes_at_once(opened):
                    open_values.append(opened)
                    if isinstance(opened, dict):
                        keys.append(self._scan_key())
                    continue
                value: Any = opened
            else:
                value = self._scan_scalar(byte)
            while open_values:
                inner = open_values[-1]
                if isinstance(inner, dict):
                    inner[keys.pop()] = value
                else:
                    inner.append(value)
                if self._has_next(inner):
                    if isinstance(inner, dict):
                        keys.append(self._scan_key())
                    break
                value = open_values.pop()
            else:
                return value

    def _closes_at_once(self, opened: dict[str, Any] | list[Any]) -> bool:
        self.skip_space()
        if self.peek_byte() != ord("}" if isinstance(opened, dict) else "]"):
            return False
        self.at += 1
        return True

    def _has_next(self, inner: dict[str, Any] | list[Any]) -> bool:
        """Read the sign after an entry; return True if another one follows, False if the container ends."""
        self.skip_space()
        sign, is_object = self.peek_byte(), isinstance(inner, dict)
        if sign not in (b",}" if is_object else b",]"):
            raise self.build_error("after object key:value pair" if is_object else "after array element")
        self.at += 1
        return sign == ord(",")

    def _scan_key(self) -> str:
        self.skip_space()
        if self.peek_byte() != ord('"'):
            raise self.build_error("looking for beginning of object key string")
        key = self._scan_string()
        self.skip_space()
        if self.peek_byte() != ord(":"):
            raise self.build_error("after object key")
        self.at += 1
        return key

    def _scan_scalar(self, byte: int) -> Any:
        if byte == ord('"'):
            return self._scan_string()
        if byte in _WORDS:
            return self._scan_word(*_WORDS[byte])
        if byte in _DIGITS or byte == ord("-"):
            return self._scan_number()
        raise self.build_error("looking for beginning of value")

    def _scan_word(self, word: bytes, value: bool | None) -> bool | None:
        for expected in word:
            if self.peek_byte() != expected:
                raise self.build_error(f"in literal {word.decode()} (expecting '{chr(expected)}')")
            self.at += 1
        return value

    def _scan_string(self) -> str:
        start = self.at + 1
        self.at = start
        escaped = False
        while True:
            plain = _PLAIN.match(self.body, self.at)
            self.at = plain.end() if plain else self.at
            byte = self.peek_byte()
            if byte == ord('"'):
                break
            if byte != ord("\\"):
                raise self.build_error("in string literal")
            self._skip_escape()
            escaped = True
        text = decode_utf8(self.body[start : self.at])
        self.at += 1
        return _ESCAPE.sub(_decode_escape, text) if escaped else text

    def _skip_escape(self) -> None:
        self.at += 1
        if self.peek_byte() not in b'bfnrt\\/"u':
            raise self.build_error("in string escape code")
        digits = 4 if self.peek_byte() == ord("u") else 0
        self.at += 1
        for _ in range(digits):
            if self.peek_byte() not in b"0123456789abcdefABCDEF":
                raise self.build_error("in \\u hexadecimal character escape")
            self.at += 1

    def _scan_number(self) -> int | float:
        start = self.at
        if self.peek_byte() == ord("-"):
            self.at += 1
            if self.peek_byte() not in _DIGITS:
                raise self.build_error("in numeric literal")
        self.at += 1
        if self.body[self.at - 1] != ord("0"):
            self._skip_digits()
        integer_end = self.at
        if self.body[self.at : self.at + 1] == b".":
            self.at += 1
            self._skip_required_digits("after decimal point in numeric literal")
        if self.body[self.at : self.at + 1] in (b"e", b"E"):
            self.at += 1
            if self.body[self.at : self.at + 1] in (b"+", b"-"):
                self.at += 1
            self._skip_required_digits("in exponent of numeric literal")
        text = self.body[start : self.at].decode()
        return int(text) if self.at == integer_end and len(text) < _MAX_INTEGER_DIGITS else Float(text)

    def _skip_digits(self) -> None:
        while self.at < len(self.body) and self.body[self.at] in _DIGITS:
            self.at += 1

    def _skip_required_digits(self, context: str) -> None:
        if self.peek_byte() not in _DIGITS:
            raise self.build_error(context)
        self._skip_digits()


def _decode_escape(match: re.Match[str]) -> str:
    """Decode one escape, or neighbouring ones of four digits; half of a surrogate pair becomes U+FFFD."""
    text = match[0]
    if text[1] != "u":
        return _ESCAPED.get(text[1], text[1])
    units = b"".join(int(text[at + 2 : at + 6], 16).to_bytes(2, "little") for at in range(0, len(text), 6))
    return units.decode("utf-16-le", "go-replace-units")


def _replace_unit(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd", error.start + 2


codecs.register_error("go-replace-units", _replace_unit)
