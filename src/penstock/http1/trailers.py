"""Trailers of a chunked message, which neither side passes on (RFC 9110, 6.5.1)."""

import re

_LAST_CHUNK = rb"(?:\A|(?<=\n))0+[ \t]*(?:;[^\r\n]*)?\r\n"
_TRAILERS = re.compile(
    rb"(?P<last>" + _LAST_CHUNK + rb"|\A)(?:[^\x00-\x20;:]+:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)+\r\n\Z"
)


def remove_trailers(data: bytes) -> bytes:
    """Return the end of a chunked message without its trailers; b"" if `data` does not contain all of them.

    The parser has accepted `data`, which ends with the trailers and begins with a chunk, with the end of one, or with
    the first trailer.
    """
    found = _TRAILERS.search(data)
    return data[: found.end("last")] + b"\r\n" if found else b""
