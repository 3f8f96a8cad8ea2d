"""Keep-alive connections to engines: one `Pool` for each address, all of them in one `Pools`.

A free connection is kept for a while and the youngest is used first, so that the surplus of a busy hour ages out.
Taking one that is free is synchronous; only connecting waits.
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
    """`connect_timeout` and `idle_expiry` are seconds; the rest are numbers of connections to one address.

    `max_costly` free ones are kept to a server that counts its connections. llama.cpp's (cpp-httplib) holds a thread
    for each, so that a burst's free ones would make new calls wait until they expire, five seconds.
    """

    connect_timeout: float = 5.0
    idle_expiry: float = 60.0
    max_idle: int = 128
    max_costly: int = 2
    max_connections: int = 16384


@dataclass(frozen=True, slots=True)
class Address:
    """Where a base URL points: `prefix` is its path without a trailing slash, `authority` the Host header's value."""

    host: str
    port: int
    tls: bool
    prefix: str
    authority: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Of an absolute http(s) URL; credentials in it are left out."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host = unquote(parts.hostname or "localhost")
        port = parts.port or (443 if tls else 80)
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port == (443 if tls else 80) else f"{shown}:{port}"
        return cls(host, port, tls, parts.path.rstrip("/"), authority)

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """`verify` is True for the system's authorities, a file of authorities, or False for no verification at all."""
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)


class Pool:
    """The connections to one address. `now` is the loop's time at the last sweep: near enough for limits of seconds."""

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
        self._tls = tls_context(verify) if address.tls else None
        self._closed = False
        self._ended = False

    @property
    def size(self) -> int:
        """Connections open or being opened."""
        return len(self.busy) + len(self._idle) + self._connecting

    def take(self) -> Connection | None:
        """A free connection, or None when one must be opened."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.open:
                self.busy.add(connection)
                return connection
        return None

    async def connect(self) -> Connection:
        """Open a connection. Raises ConnectFailed, UpstreamTimeout, or NoServer at the limit."""
        self._still_wanted()
        if self.size >= self._limits.max_connections:
            raise NoServer(f"{self._name} already has {self.size} connections; raise server.max_connections")
        self._connecting += 1
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self._name, self._freed),
                    self.address.host,
                    self.address.port,
                    ssl=self._tls,
                    server_hostname=self.address.host if self._tls else None,
                )
        except TimeoutError:
            seconds = f"{self._limits.connect_timeout:g} s"
            raise UpstreamTimeout(f"{self._name} did not accept a connection within {seconds}") from None
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {self._name}: {_words(error)}") from error
        finally:
            self._connecting -= 1
        self.busy.add(connection)
        if self._ended:
            connection.abort()
        self._still_wanted()
        return connection

    def _still_wanted(self) -> None:
        if self._ended:
            raise ConnectFailed(f"{self._name} is not asked any more: the gateway is stopping")

    def give_back(self, connection: Connection) -> None:
        """Return a connection that was taken and not used."""
        self._freed(connection, connection.open)

    def sweep(self, now: float) -> None:
        """Check the time-outs of running exchanges and close what has been free for too long."""
        self.now = now
        for connection in tuple(self.busy):
            connection.check(now)
        if self._idle:
            old = now - self._limits.idle_expiry
            for connection in self._idle:
                if connection.idle_since < old:
                    connection.close()
            self._idle = [connection for connection in self._idle if connection.open]

    def reopen(self) -> None:
        """Keep free connections again: the address is wanted after all."""
        self._closed = False

    def close(self) -> None:
        """Close what is free now, and what is busy when it becomes free."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def abort(self) -> None:
        """Close everything at once, and open nothing more."""
        self.close()
        self._ended = True
        for connection in tuple(self.busy):
            connection.abort(ConnectFailed(f"the connection to {self._name} was closed: the gateway is stopping"))

    def _freed(self, connection: Connection, reusable: bool) -> None:
        self.busy.discard(connection)
        if not reusable:
            return
        if self._closed or len(self._idle) >= (self._limits.max_costly if connection.costly else self._limits.max_idle):
            connection.close()
            return
        connection.idle_since = self.now
        self._idle.append(connection)


class Pools:
    """The pools of all addresses, and the sweep that keeps their time."""

    def __init__(self, limits: PoolLimits, interval: float = 0.25) -> None:
        self._limits = limits
        self._interval = interval
        self._pools: dict[tuple[str, bool | str], Pool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def get(self, url: str, verify: bool | str = True) -> Pool:
        """The pool for a base URL; made at its first use."""
        pool = self._pools.get((url, verify))
        if pool is None:
            loop = asyncio.get_running_loop()
            pool = Pool(Address.parse(url), self._limits, verify, loop)
            self._pools[url, verify] = pool
            if self._timer is None:
                self._timer = loop.call_later(self._interval, self._sweep, loop)
        else:
            pool.reopen()
        if self._ended:
            pool.abort()
        return pool

    @property
    def open(self) -> int:
        """Connections in all."""
        return sum(pool.size for pool in self._pools.values())

    @property
    def busy(self) -> int:
        """Connections with an exchange on them."""
        return sum(len(pool.busy) for pool in self._pools.values())

    def retain(self, urls: Callable[[str], bool]) -> None:
        """Close the pools of addresses that are no longer wanted; running exchanges go on to their end."""
        for key, pool in tuple(self._pools.items()):
            if not urls(key[0]):
                pool.close()
                if not pool.size:
                    del self._pools[key]

    def close(self) -> None:
        """Close every connection, running exchanges too."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended = True  # a call whose connection ends here may go on to an address not asked before
        for pool in tuple(self._pools.values()):
            pool.abort()
        self._pools.clear()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._interval, self._sweep, loop)
        now = loop.time()
        for pool in tuple(self._pools.values()):
            pool.sweep(now)


def _words(error: OSError) -> str:
    """An operating system's error in the words people know, without numbers of addresses."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); name its authority in verify_tls"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    with contextlib.suppress(AttributeError, TypeError):
        if "refused" in str(error).lower():
            return "connection refused"
    return error.strerror or str(error)
