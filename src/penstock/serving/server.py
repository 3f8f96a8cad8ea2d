"""The listening server: uvicorn with the gateway's protocol, its own signals, and one sweep over all connections."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import uvicorn

from penstock.domain.errors import PenstockError
from penstock.serving.idle_sweep import sweep
from penstock.serving.protocol import GatewayProtocol
from penstock.serving.routes import Gate

log = logging.getLogger("penstock")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how to listen. Times are seconds; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8005
    keep_alive: float = 75.0
    patience: float = 120.0
    drain: float = 30.0
    backlog: int = 8192


class Server(uvicorn.Server):
    """Serves until told to stop; `stopping` hears of it at once, before the drain."""

    def __init__(
        self, app: App, protocol: type[GatewayProtocol], listening: Listening, stopping: Callable[[], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                host=listening.host,
                port=listening.port,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=listening.backlog,
                timeout_keep_alive=int(listening.keep_alive),
                timeout_graceful_shutdown=max(1, round(listening.drain)),
            )
        )
        self._listening = listening
        self._shared = protocol.common
        self._stopping = stopping
        self._sweeper: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so once it is true."""
        await super().startup(sockets)
        for host, port in self.addresses:
            log.info("Penstock listens on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGINT and SIGTERM drain; a second one ends at once. The exit code is then our own."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in signals:
                loop.add_signal_handler(number, self.stop)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            with contextlib.suppress(ValueError):
                for number in signals:
                    signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        self._sweep(loop)
        try:
            yield
        finally:
            if self._sweeper is not None:
                self._sweeper.cancel()
            for number in signals:
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                    loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Take no new work; let what runs come to its end. Asked again, end it."""
        if self.should_exit:
            self.force_exit = True
            for connection in tuple(self.server_state.connections):
                connection.transport.abort()
        self.should_exit = True
        self._stopping()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, once it does."""
        return [server.sockets[0].getsockname()[:2] for server in self.servers if server.sockets]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(1.0, self._sweep, loop)
        self._shared.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        now = loop.time()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, GatewayProtocol):
                sweep(connection, now, self._listening.keep_alive, self._listening.patience)


def gated(app: App, gate: Gate, refuse: Callable[[str, PenstockError], tuple[bytes, bytes]]) -> App:
    """`app` behind the gate. `refuse(path, error)` draws a refusal: its media type and body."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = dict(scope["headers"])
            error = gate.check(headers.get(b"host"), headers.get(b"origin"))
            if error is not None:
                media_type, body = refuse(scope["path"], error)
                head = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": error.status, "headers": head})
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return guarded


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket, so that a busy port is told before anything else starts. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_REUSEADDR") and socket.AF_INET:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
