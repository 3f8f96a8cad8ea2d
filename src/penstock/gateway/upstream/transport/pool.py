"""Pools of keep-alive connections to model servers: one `Pool` for each address, all of them in one `Pools`.

Free connections are kept for a while. The youngest is used first, so that the surplus of a busy hour expires. Taking a
free connection is synchronous; only connecting waits.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from penstock.domain.errors import ConnectFailed, NoServer, UpstreamTimeout
from penstock.gateway.upstream.transport.connection import Connection


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of one pool. `connect_timeout` and `idle_expiry` are seconds; the others are numbers of connections.

    Of a server that limits its connections only `max_idle_limited` free ones are kept. llama.cpp's server (cpp-httplib)
    holds a thread for each, so that the free connections of a burst would make new calls wait until they expire, five
    seconds.
    """

    connect_timeout: float = 5.0
    idle_expiry: float = 60.0
    max_idle: int = 128
    max_idle_limited: int = 2
    max_connections: int = 16384


@dataclass(frozen=True, slots=True)
class Address:
    """Network address of a base URL.

    `prefix` is its path without a trailing slash, `authority` the Host header's value.
    """

    host: str
    port: int
    tls: bool
    prefix: str
    authority: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse an absolute http(s) URL; credentials in it are ignored."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host = unquote(parts.hostname or "localhost")
        port = parts.port or (443 if tls else 80)
        host_text = f"[{host}]" if ":" in host else host
        authority = host_text if port == (443 if tls else 80) else f"{host_text}:{port}"
        return cls(host, port, tls, parts.path.rstrip("/"), authority)

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


def create_tls_context(verify: bool | str) -> ssl.SSLContext:
    """Create a client context. `verify` is True for the system's authorities, a file of authorities, or False."""
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)


class Pool:
    """Connections to one address. `now` is the loop time of the last sweep, precise enough for limits of seconds."""

    def __init__(
        self, address: Address, limits: PoolLimits, verify: bool | str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self.busy: set[Connection] = set()
        self._name = str(address)
        self._limits = limits
        self._idle: list[Connection] = []
        self._connecting = 0
        self.loop = loop
        self.now = loop.time()
        self._tls = create_tls_context(verify) if address.tls else None
        self._closed = False
        self._aborted = False

    @property
    def size(self) -> int:
        """Number of connections that are open or being opened."""
        return len(self.busy) + len(self._idle) + self._connecting

    def take(self) -> Connection | None:
        """Take a free connection; None when one must be opened."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open:
                self.busy.add(connection)
                return connection
        return None

    async def connect(self) -> Connection:
        """Open a connection. Raises ConnectFailed, UpstreamTimeout, or NoServer at the limit."""
        self._check_not_aborted()
        if self.size >= self._limits.max_connections:
            raise NoServer(f"{self._name} already has {self.size} connections. Raise server.max_connections.")
        self._connecting += 1
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self._name, self._on_released),
                    self.address.host,
                    self.address.port,
                    ssl=self._tls,
                    server_hostname=self.address.host if self._tls else None,
                )
        except TimeoutError:
            seconds = f"{self._limits.connect_timeout:g} s"
            raise UpstreamTimeout(f"{self._name} did not accept a connection within {seconds}.") from None
        except OSError as error:
            raise ConnectFailed(f"Cannot connect to {self._name}: {_describe_os_error(error)}.") from error
        finally:
            self._connecting -= 1
        self.busy.add(connection)
        if self._aborted:
            connection.abort()
        self._check_not_aborted()
        return connection

    def _check_not_aborted(self) -> None:
        if self._aborted:
            raise ConnectFailed(f"Cannot connect to {self._name}: the gateway is stopping.")

    def give_back(self, connection: Connection) -> None:
        """Return a connection that was taken and not used."""
        self._on_released(connection, connection.is_open)

    def sweep(self, now: float) -> None:
        """Check the deadlines of running exchanges and close connections that have been free for too long."""
        self.now = now
        for connection in tuple(self.busy):
            connection.check_deadlines(now)
        if self._idle:
            expired_before = now - self._limits.idle_expiry
            for connection in self._idle:
                if connection.idle_since < expired_before:
                    connection.close()
            self._idle = [connection for connection in self._idle if connection.is_open]

    def reopen(self) -> None:
        """Keep free connections again: the address is back in use."""
        self._closed = False

    def close(self) -> None:
        """Close free connections now, and busy ones when they become free."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def abort(self) -> None:
        """Close all connections at once, and open no more."""
        self.close()
        self._aborted = True
        for connection in tuple(self.busy):
            connection.abort(ConnectFailed(f"The connection to {self._name} was closed: the gateway is stopping."))

    def _on_released(self, connection: Connection, reusable: bool) -> None:
        self.busy.discard(connection)
        if not reusable:
            return
        limits = self._limits
        max_idle = limits.max_idle_limited if connection.limits_connections else limits.max_idle
        if self._closed or len(self._idle) >= max_idle:
            connection.close()
            return
        connection.idle_since = self.now
        self._idle.append(connection)


class Pools:
    """Pools of all addresses, and the sweep that checks their deadlines every `interval` seconds."""

    def __init__(self, limits: PoolLimits, interval: float = 0.25) -> None:
        self._limits = limits
        self._interval = interval
        self._pools: dict[tuple[str, bool | str], Pool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def get(self, url: str, verify: bool | str = True) -> Pool:
        """Return the pool of a base URL, created at its first use."""
        pool = self._pools.get((url, verify))
        if pool is None:
            loop = asyncio.get_running_loop()
            pool = Pool(Address.parse(url), self._limits, verify, loop)
            self._pools[url, verify] = pool
            if self._timer is None:
                self._timer = loop.call_later(self._interval, self._sweep, loop)
        else:
            pool.reopen()
        if self._closed:
            pool.abort()
        return pool

    @property
    def size(self) -> int:
        """Number of connections that are open or being opened."""
        return sum(pool.size for pool in self._pools.values())

    @property
    def busy_count(self) -> int:
        """Number of connections with a running exchange."""
        return sum(len(pool.busy) for pool in self._pools.values())

    def retain(self, is_used: Callable[[str], bool]) -> None:
        """Close the pools of addresses that are no longer used; running exchanges continue to their end."""
        for key, pool in tuple(self._pools.items()):
            if not is_used(key[0]):
                pool.close()
                if not pool.size:
                    del self._pools[key]

    def close(self) -> None:
        """Close every connection, including those with running exchanges."""
        if self._timer is not None:
            self._timer.cancel()
        self._closed = True  # a call that fails here may try an address that has no pool yet
        for pool in tuple(self._pools.values()):
            pool.abort()
        self._pools.clear()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._interval, self._sweep, loop)
        now = loop.time()
        for pool in tuple(self._pools.values()):
            pool.sweep(now)


def _describe_os_error(error: OSError) -> str:
    """Return an operating system's error in plain words, without numeric addresses."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); set verify_tls to its authority's file"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    with contextlib.suppress(AttributeError, TypeError):
        if "refused" in str(error).lower():
            return "connection refused"
    return error.strerror or str(error)
