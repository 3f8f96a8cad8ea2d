"""Request targets in the form in which routes are looked up."""

import re

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_REPEATED_SLASHES = re.compile(rb"//+")


def split_absolute_target(target: bytes) -> tuple[bytes, bytes] | None:
    """Split a target that names its host, as clients of proxies send it (RFC 9112, 3.2.2), into host and path.

    None for any other target.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    host, path = match.groups()
    return host, path if path.startswith(b"/") else b"/" + path


def normalize_slashes(target: bytes) -> bytes:
    """Return a target without repeated slashes in its path and without one at its end."""
    path, question_mark, query = target.partition(b"?")
    path = _REPEATED_SLASHES.sub(b"/", path)
    return (path.rstrip(b"/") or b"/") + question_mark + query
