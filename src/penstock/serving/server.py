"""The listening server: uvicorn with the gateway's protocol, its own signal handling, and a sweep over connections."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import uvicorn

from penstock.domain.errors import PenstockError
from penstock.serving.idle_sweep import sweep_connection
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol

if sys.platform != "win32":
    import fcntl
    import resource

log = logging.getLogger("penstock")

MAX_TABLE_SIZE = 32768
"""Open files for which the kernel keeps room from the start; takes 8 bytes each."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Address and limits of the listening server. Times are seconds; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8005
    keep_alive: float = 75.0
    request_timeout: float = 120.0
    drain: float = 30.0
    backlog: int = 8192


class HttpServer(uvicorn.Server):
    """uvicorn's server. `on_stop` is called when a stop is requested, before it drains."""

    def __init__(
        self, app: App, protocol: type[GatewayProtocol], options: ListenOptions, on_stop: Callable[[], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                host=options.host,
                port=options.port,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=options.backlog,
                timeout_keep_alive=int(options.keep_alive),
                timeout_graceful_shutdown=max(1, round(options.drain)),
            )
        )
        self._options = options
        self._context = protocol.class_context
        self._on_stop = on_stop
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then log the addresses."""
        grow_descriptor_table()
        await super().startup(sockets)
        for host, port in self.addresses:
            log.info("Penstock listens on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Drain on SIGINT or SIGTERM, exit at once on a second one. uvicorn's own handlers would set the exit code."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in signals:
                loop.add_signal_handler(number, self.stop)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            with contextlib.suppress(ValueError):
                for number in signals:
                    signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        self._sweep_connections(loop)
        try:
            yield
        finally:
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
            for number in signals:
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                    loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Accept no more requests and let running ones complete; on a second call, abort them."""
        if self.should_exit:
            self.force_exit = True
            for connection in tuple(self.server_state.connections):
                connection.transport.abort()
        self.should_exit = True
        self._on_stop()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket; empty before the server has started."""
        return [server.sockets[0].getsockname()[:2] for server in self.servers if server.sockets]

    def _sweep_connections(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep_timer = loop.call_later(1.0, self._sweep_connections, loop)
        self._context.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        now = loop.time()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, GatewayProtocol):
                sweep_connection(connection, now, self._options.keep_alive, self._options.request_timeout)


def apply_origin_policy(
    app: App, policy: OriginPolicy, render_error: Callable[[str, PenstockError], tuple[bytes, bytes]]
) -> App:
    """Return `app` behind the policy. `render_error(path, error)` returns media type and body of an error response."""

    async def check_and_forward(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = dict(scope["headers"])
            error = policy.check_request(headers.get(b"host"), headers.get(b"origin"))
            if error is not None:
                media_type, body = render_error(scope["path"], error)
                head = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": error.status, "headers": head})
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return check_and_forward


def bind_socket(host: str, port: int) -> socket.socket:
    """Bind a socket before anything else starts, so that a busy port is reported at once. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_REUSEADDR"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def grow_descriptor_table(size: int = MAX_TABLE_SIZE) -> None:
    """Let the kernel make room for `size` open files and sockets now, as far as the process's limit allows.

    Linux doubles the table of open files when it is full (at 256, 512, …). In a process with threads that waits for an
    RCU grace period, 10 to 15 ms in which no connection is served. The table never shrinks again.
    """
    if sys.platform == "win32":
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = (size if limit == resource.RLIM_INFINITY else min(size, limit)) - 1
    with contextlib.suppress(OSError), socket.socket() as opened:
        os.close(fcntl.fcntl(opened, fcntl.F_DUPFD, highest))
