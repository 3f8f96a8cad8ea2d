"""Checks client connections once a second: idle, stalled and closed ones. A timer for each would cost more."""

import select

from penstock.domain.errors import ClientStalled
from penstock.serving.protocol import GatewayProtocol

PROGRESS_BYTES = 64 * 1024
"""A request must arrive at least this fast in each `request_timeout`."""
_POLL_HANGUP = getattr(select, "POLLRDHUP", 0)


def sweep_connection(connection: GatewayProtocol, now: float, keep_alive: float, request_timeout: float) -> None:
    """Close a connection that has been idle, or whose client has not read, for `keep_alive` seconds.

    A request that has made no progress for `request_timeout` seconds is answered with 408.
    """
    reading_paused = connection.flow.read_paused
    if reading_paused and _has_client_closed(connection):
        connection.transport.abort()
        return
    incomplete = None if reading_paused else connection.incomplete_request()
    if incomplete is not None:
        marker: object = (incomplete[0], incomplete[1] // PROGRESS_BYTES)
        limit = request_timeout
    else:
        current = connection.cycle
        if current is not None and not current.response_complete:
            connection.sweep_marker = None
            return
        marker = connection.transport.get_write_buffer_size()
        limit = keep_alive
    if marker != connection.sweep_marker:
        connection.sweep_marker, connection.active_at = marker, now
    elif now - connection.active_at <= limit:
        return
    elif incomplete is not None:
        connection.reject_request(
            ClientStalled(f"The request did not arrive in time: it stalled for {limit:g} s. Send it again.")
        )
    elif marker:  # the rest of a response that the client does not read
        connection.transport.abort()
    else:
        connection.transport.close()


def _has_client_closed(connection: GatewayProtocol) -> bool:
    """Return True if the client has closed a connection that is not being read; False without POLLRDHUP."""
    if not _POLL_HANGUP:
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), _POLL_HANGUP)
    return bool(poll.poll(0))
