"""Texts as Go's standard library reads and writes them: JSON, quoted strings, durations, base64."""

import re
from typing import Any

import msgspec

_QUOTED = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_NUMBER = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?")
_UNIT = re.compile(r"[^.0-9]*")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_NANOSECONDS = 2**63
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def encode_json(value: Any) -> bytes:
    """Encode JSON as Go does; the escaped characters occur in strings only."""
    text = msgspec.json.encode(value)
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


def quote_text(text: str) -> str:
    """Quote a text as `%q` does."""
    return '"' + "".join(map(_quote_letter, text)) + '"'


def _quote_letter(letter: str) -> str:
    code = ord(letter)
    if code in _QUOTED:
        return _QUOTED[code]
    if letter.isprintable():
        return letter
    return f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def parse_duration(text: str) -> int:
    """Parse a duration (`1h30m`, `300ms`, `0`) into nanoseconds. Raises ValueError with Go's message."""
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {_quote_bytes(text)}")
    total = 0
    while rest:
        number = _NUMBER.match(rest)
        integer, fraction = (number[1], number[3] or "") if number else ("", "")
        if number is None or not (integer or fraction):
            raise ValueError(f"time: invalid duration {_quote_bytes(text)}")
        rest = rest[number.end() :]
        found = _UNIT.match(rest)
        unit = found[0] if found else ""
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quote_bytes(text)}")
        if unit not in _NANOSECONDS:
            raise ValueError(f"time: unknown unit {_quote_bytes(unit)} in duration {_quote_bytes(text)}")
        rest = rest[len(unit) :]
        total += int(integer or "0") * _NANOSECONDS[unit]
        total += int(fraction or "0") * _NANOSECONDS[unit] // 10 ** len(fraction)
        if total >= _MAX_NANOSECONDS:
            raise ValueError(f"time: invalid duration {_quote_bytes(text)}")
    return -total if text.startswith("-") else total


def _quote_bytes(text: str) -> str:
    """Quote a text as the time package does: other letters than ASCII byte by byte."""
    quoted = []
    for letter in text:
        if letter in '"\\':
            quoted.append(f"\\{letter}")
        elif letter < " " or letter >= "\x80":
            quoted.append("".join(f"\\x{byte:02x}" for byte in letter.encode()))
        else:
            quoted.append(letter)
    return f'"{"".join(quoted)}"'


def find_base64_error(text: str) -> int | None:
    """Return the position of the first byte that is no base64, as Go reports it, or None."""
    at, data = 0, text.encode()
    while True:
        filled, at, padded = _read_quantum(data, at)
        if padded or (filled == 0 and at >= len(data)):
            return _check_padding(data, at, filled) if padded else None
        if filled < 4:
            broken = at < len(data)
            return at if broken else at - filled


def _read_quantum(data: bytes, at: int) -> tuple[int, int, bool]:
    """Read up to four letters; return (how many, position, True if padding follows)."""
    filled = 0
    while filled < 4 and at < len(data):
        letter = chr(data[at])
        if letter in "\r\n":
            at += 1
        elif letter in _ALPHABET:
            filled, at = filled + 1, at + 1
        else:
            return filled, at, letter == "="
    return filled, at, False


def _check_padding(data: bytes, at: int, filled: int) -> int | None:
    if filled < 2:
        return at
    at = _skip_newlines(data, at + 1)
    if filled == 2:
        if at >= len(data):
            return len(data)
        if data[at : at + 1] != b"=":
            return at - 1
        at = _skip_newlines(data, at + 1)
    return at if at < len(data) else None


def _skip_newlines(data: bytes, at: int) -> int:
    while data[at : at + 1] in (b"\r", b"\n"):
        at += 1
    return at
