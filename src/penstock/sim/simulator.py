"""A simulated server: socket, faults, speed model and protocol, wired together."""

import asyncio
import math
import random
import signal
import socket
import sys
from dataclasses import replace
from typing import Any, Self

import msgspec

from penstock.sim.connection import Connection
from penstock.sim.exchange import Exchange
from penstock.sim.faults import Faults
from penstock.sim.kind import Kind
from penstock.sim.kinds import KINDS
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import Counters, EngineCrashError, SpeedModel

_STORMS = {
    "status_429": (429, "Too many requests, please try again later"),
    "status_500": (500, "internal server error"),
    "status_503": (503, "server busy, please try again"),
    "status_504": (504, "timed out waiting for the model"),
}


class Simulator:
    """One simulated model server on its own port.

    Use as an async context manager, or `start` and `stop` it. `faults` may be set at any time, here or by
    `PUT /sim/faults`; `GET /sim/state` returns its state and counters. Raises ValueError for an unknown kind,
    OSError for a port in use.
    """

    def __init__(self, options: SimOptions | None = None) -> None:
        self.options = options or SimOptions()
        kind = KINDS.get(self.options.kind)
        if kind is None:
            raise ValueError(
                f"unknown kind of server {self.options.kind!r}; one of {', '.join(sorted(KINDS))} is needed"
            )
        self.connections: set[Connection] = set()
        models = self.options.resolve_models(kind.default_models)
        self.speed_model = SpeedModel(self.options, models, per_model=kind.slots_per_model)
        self.kind: Kind = kind(self.speed_model, self.options)
        self._style = kind.style
        if self.options.idle_seconds is not None:
            self._style = replace(kind.style, idle_seconds=self.options.idle_seconds)
        self._faults = self.options.faults
        self._dice = random.Random(self.options.seed)
        self._port = self.options.port
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._relief: asyncio.TimerHandle | None = None

    # start and stop
    async def start(self) -> None:
        """Start listening. A `cold_start` server that does not listen while loading starts after it."""
        self._socket = self._bind_socket()
        self._port = self._socket.getsockname()[1]
        if self.kind.one_model and self.options.cold_start:
            self.speed_model.loading = True
            self._spawn_task(self._warm_up())
        elif self.kind.one_model:
            self._preload_models()
        if not (self.speed_model.loading and self.kind.refuses_while_loading):
            await self._start_listening()
        self.faults = self._faults

    async def stop(self) -> None:
        """Stop listening and end every connection with its requests."""
        if self._relief is not None:
            self._relief.cancel()
        going = (*self._tasks, *self.kind.background)
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        self._stop_listening()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        while self.connections:
            for connection in tuple(self.connections):
                connection.abort()
            await asyncio.sleep(0)
        self.speed_model.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    # state
    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        host = self.options.host
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def running(self) -> int:
        """Number of generations that hold a slot."""
        return self.speed_model.running

    @property
    def waiting(self) -> int:
        """Number of generations that wait for a model to load or for a slot."""
        return self.speed_model.waiting

    @property
    def counters(self) -> Counters:
        return self.speed_model.counters

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._socket is None and self._server is None:
            return
        if self._relief is not None:
            self._relief.cancel()
            self._relief = None
        if faults.seconds != math.inf:
            self._relief = asyncio.get_running_loop().call_later(faults.seconds, self._restore_service)
        if faults.refuse >= 1:
            self._refuse_connections()
        elif self._server is None and not (self.speed_model.loading and self.kind.refuses_while_loading):
            self._resume_listening()

    def _restore_service(self) -> None:
        self.faults = Faults()

    # listening
    def _bind_socket(self) -> socket.socket:
        host = self.options.host or "0.0.0.0"
        ours = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            ours.setblocking(False)
            if sys.platform != "win32":
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.bind((host, self._port))
        except OSError:
            ours.close()
            raise
        return ours

    async def _start_listening(self) -> None:
        ours, self._socket = self._socket, None
        if ours is not None:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self), sock=ours, backlog=1024
            )

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _refuse_connections(self) -> None:
        """Stop listening, but keep the port."""
        if self._server is not None:
            self._stop_listening()
            self._socket = self._bind_socket()
        for connection in tuple(self.connections):
            if not connection.is_busy:
                connection.reset()

    def _resume_listening(self) -> None:
        if self._socket is not None:
            self._socket.listen(1024)
            self._spawn_task(self._start_listening())

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm_up(self) -> None:
        await self.speed_model.sleep(self.options.load_seconds)
        self._preload_models()
        self.speed_model.loading = False
        if self._server is None and self._faults.refuse < 1:
            await self._start_listening()

    def _preload_models(self) -> None:
        for model in self.speed_model.models:
            self.speed_model.preload_model(model)

    # requests
    def accepts_connections(self) -> bool:
        """Return False if a new connection must be refused."""
        if self._faults.scope == "all" and self._faults.refuse and self._dice.random() < self._faults.refuse:
            self.counters.count_fault("refuse")
            return False
        return True

    async def handle_exchange(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path.startswith("/sim/"):
            await self._handle_control(exchange)
            return
        self.counters.count_request(request.path)
        exchange.style = self._style
        routes = self.kind.find_routes(request.path)
        route = routes.get(request.method) if routes else None
        if await self._apply_fault(exchange, generating=route is not None and route.generates):
            return
        if await self.kind.intercept(exchange):
            return
        if route is None:
            await self.kind.answer_unknown_route(exchange, tuple(routes or ()))
            return
        try:
            await route.handler(exchange)
        except EngineCrashError:
            await self.kind.reply_error(exchange, 500, "the simulated engine broke before its first token")

    async def _apply_fault(self, exchange: Exchange, *, generating: bool) -> bool:
        """Choose and apply the fault of this exchange; return True if that completed the response."""
        exchange.faults = self._faults
        refusing = exchange.reused or self._faults.scope != "all"
        exchange.fault = fault = self._faults.choose_fault(self._dice, generating=generating, refusing=refusing)
        if fault is None:
            return False
        self.counters.count_fault(fault)
        exchange.fault_after = self._dice.randint(1, 3)
        if fault in _STORMS:
            status, message = _STORMS[fault]
            if status in {429, 503}:
                exchange.headers.append(("Retry-After", str(math.ceil(self._faults.retry_after))))
            exchange.fault = None
            await self.kind.reply_error(exchange, status, message)
            return True
        if fault in {"refuse", "garbage", "hang_before"}:
            await exchange.apply_fault()
        return False

    async def _handle_control(self, exchange: Exchange) -> None:
        request = exchange.request
        if (request.method, request.path) == ("GET", "/sim/state"):
            await exchange.reply(200, msgspec.json.encode(self.state()), "application/json")
        elif (request.method, request.path) == ("PUT", "/sim/faults"):
            try:
                faults = Faults.from_mapping(
                    msgspec.json.decode(request.body or b"{}", type=dict[str, float | str | None])
                )
            except (ValueError, msgspec.DecodeError) as error:
                await exchange.reply(400, msgspec.json.encode({"error": str(error)}), "application/json")
                return
            await exchange.reply(200, msgspec.json.encode(faults.as_mapping()), "application/json")
            self.faults = faults
        else:
            known = "GET /sim/state and PUT /sim/faults"
            await exchange.reply(
                404, msgspec.json.encode({"error": f"a simulated server has {known}"}), "application/json"
            )

    def state(self) -> dict[str, Any]:
        """Return the body of `/sim/state`."""
        return {
            "kind": self.kind.name,
            "url": self.url,
            "running": self.running,
            "waiting": self.waiting,
            "loading": self.speed_model.loading,
            "connections": len(self.connections),
            "models": [model.name for model in self.speed_model.models],
            "loaded": list(self.speed_model.residents),
            "faults": self._faults.as_mapping(),
            "counters": msgspec.to_builtins(self.counters),
        }


def run(options: SimOptions) -> None:
    """Serve until SIGINT or SIGTERM; print the address on standard output."""
    asyncio.run(_serve_until_stopped(options))


async def _serve_until_stopped(options: SimOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        if sys.platform != "win32":
            loop.add_signal_handler(getattr(signal, name), stopped.set)
    async with Simulator(options) as simulator:
        names = ", ".join(model.name for model in simulator.speed_model.models) or "no models"
        sys.stdout.write(f"Simulated {options.kind} at {simulator.url}: {names}\n")
        sys.stdout.flush()
        await stopped.wait()
