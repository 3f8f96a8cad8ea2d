"""Memory of paths that servers do not support, because of their version."""

RETRY_AFTER = 600.0
"""Seconds after which an unsupported path is tried again: the server may have been updated."""


class UnsupportedPaths:
    """Paths that responded 404, by base URL. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._retry_at: dict[tuple[str, str], float] = {}

    def add(self, url: str, path: str, now: float) -> None:
        """Remember that a server responded 404 to a path."""
        self._retry_at[url, path] = now + RETRY_AFTER

    def includes(self, url: str, path: str, now: float) -> bool:
        """Return whether a server recently responded 404 to a path."""
        retry_at = self._retry_at.get((url, path))
        if retry_at is None:
            return False
        if now < retry_at:
            return True
        del self._retry_at[url, path]
        return False
