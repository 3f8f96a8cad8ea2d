"""One look at a client's connection every second: who is idle, who dawdles, who is gone. Costs less than timers."""

import select

from penstock.domain.errors import ClientStalled
from penstock.serving.protocol import GatewayProtocol

PROGRESS = 64 * 1024
"""Bytes of a request that count as progress: it must not come more slowly than this in each `patience`."""
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


def sweep(connection: GatewayProtocol, now: float, keep_alive: float, patience: float) -> None:
    """Close a connection that has been idle, or whose client has not read, for `keep_alive` seconds; answer 408 to a
    request that does not come on for `patience` seconds."""
    unread = connection.flow.read_paused
    if unread and _hung_up(connection):
        connection.transport.abort()
        return
    awaited = None if unread else connection.awaited()
    if awaited is not None:
        mark: object = (awaited[0], awaited[1] // PROGRESS)
        limit = patience
    else:
        current = connection.cycle
        if current is not None and not current.response_complete:
            connection.mark = None
            return
        mark = connection.transport.get_write_buffer_size()
        limit = keep_alive
    if mark != connection.mark:
        connection.mark, connection.active_at = mark, now
    elif now - connection.active_at <= limit:
        return
    elif awaited is not None:
        connection.refuse(ClientStalled("the request did not arrive in time"))
    elif mark:  # what is left of an answer, and nobody reads it
        connection.transport.abort()
    else:
        connection.transport.close()


def _hung_up(connection: GatewayProtocol) -> bool:
    """Whether the client of a connection that is not read from has closed it (where the system can tell)."""
    if not _HUNG_UP:
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), _HUNG_UP)
    return bool(poll.poll(0))
