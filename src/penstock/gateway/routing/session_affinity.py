"""Memory of the server that answered each session last: it has the conversation in its prompt cache."""

from collections import OrderedDict

MAX_SESSIONS = 10_000


class SessionAffinity:
    """Server names by session id. The sessions used least recently are dropped beyond MAX_SESSIONS.

    The pipeline records into it when a call has ended; routing only reads it.
    """

    __slots__ = ("_servers",)

    def __init__(self) -> None:
        self._servers: OrderedDict[bytes, str] = OrderedDict()

    def remember(self, session: bytes, server: str) -> None:
        """Record the server that answered the session's last call."""
        self._servers[session] = server
        self._servers.move_to_end(session)
        if len(self._servers) > MAX_SESSIONS:
            self._servers.popitem(last=False)

    def find_server(self, session: bytes) -> str | None:
        """Return the server that answered the session's last call, None if it is not known."""
        return self._servers.get(session)
