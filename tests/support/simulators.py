"""Simulated engines for tests that are not coroutines, or that talk to a gateway in another process."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from penstock.sim import SimOptions, Simulator

T = TypeVar("T")

SIM_TEXT: Final = "Отвечаю с другой машины: привет, мир — 世界 🙂 café, and a few words of English."
"""Text of simulated engines; it differs from the text of real ones."""


class Simulators:
    """Simulated engines on an event loop in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[Simulator] = []

    def start(self, options: SimOptions) -> Simulator:
        simulator = Simulator(options)
        self.run(simulator.start())
        self._running.append(simulator)
        return simulator

    def stop(self, simulator: Simulator) -> None:
        self._running.remove(simulator)
        self.run(simulator.stop())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        for simulator in tuple(self._running):
            self.stop(simulator)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
