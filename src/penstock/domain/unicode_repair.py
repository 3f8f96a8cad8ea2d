"""Repair of JSON that is not valid Unicode: stray bytes and half surrogate pairs become U+FFFD."""

import re

# A surrogate escape without its other half. An even number of backslashes before it escapes nothing.
_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def repair_unicode(data: bytes) -> bytes:
    """Return JSON with U+FFFD for each byte that is not UTF-8 and each half surrogate pair; valid JSON unchanged."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "replace").encode()
    if b"\\u" in data:
        data = _SURROGATE.sub(lambda match: match[1] + (match[2] or rb"\ufffd"), data)
    return data
