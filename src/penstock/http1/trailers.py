"""Trailers of a chunked message, which neither side passes on (RFC 9110, 6.5.1)."""

import re

_LAST_CHUNK = rb"(?:\A|(?<=\n))0+[ \t]*(?:;[^\r\n]*)?\r\n"
_TRAILERS = re.compile(
    rb"(?P<last>" + _LAST_CHUNK + rb"|\A)(?:[^\x00-\x20;:]+:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)+\r\n\Z"
)
_EMPTY_LINES = (b"\n\r\n\r\n", b"\r\n\r\n\n")


def remove_trailers(data: bytes) -> bytes:
    """Return the end of a chunked message without its trailers; b"" if `data` does not contain all of them.

    The parser has accepted `data`, which ends with the trailers and begins with a chunk, with the end of one, or with
    the first trailer.
    """
    found = _TRAILERS.search(data)
    return data[: found.end("last")] + b"\r\n" if found else b""


def end_raw_body(data: bytes, has_trailers: bool) -> bytes:
    """Return the last bytes of a chunked body without its trailers and without empty lines after its end.

    Return nothing if a part of the trailers came before `data`.
    """
    if has_trailers:
        data = remove_trailers(data)
    if data[-5:] in _EMPTY_LINES:  # the parser ignores empty lines after the end
        data = data.rstrip(b"\r\n") + b"\r\n\r\n"
    return data
