"""Waiting for a server that has to swap models: in its queue, until it is granted or the client disconnects."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from penstock.domain.errors import ClientGone
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.client import Source
from penstock.gateway.coroutine_runner import run_now
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.request_context import RequestContext
from penstock.gateway.swap_wait import SwapWait
from tests.unit.gateway.finished_contexts import ENDPOINT
from tests.unit.gateway.recording_client import RecordingClient

GIB = 1 << 30


def deployment_of(model: str, server: str = "a", on_demand: bool = True) -> Deployment:
    model_server = Server(server, "ollama", (f"http://{server}:1",))
    return Deployment(model_server, Model(model, size=6 * GIB), model_server.url, 2, True, on_demand)


class Wait:
    """One call that waits. Server `a` has room for one model and runs `busy`; the clock moves by hand."""

    def __init__(self, *decisions: Deployment) -> None:
        self.now = 100.0
        self.catalog = Catalog()
        self.queue = self.catalog.load_of("a").swap_queue
        self.queue.residency.smallest_overflow = 10 * GIB
        self.queue.start("busy", 6 * GIB, self.now)
        self.decisions = list(decisions)
        self.decided = 0
        self.client: Any = RecordingClient()
        self.ctx = RequestContext(self.client, ENDPOINT, self.now)
        self.decide(self.ctx)
        self.errors: list[ClientGone] = []
        self.has_ended = False
        self.swap_wait = SwapWait(self.catalog, self.decide, lambda: self.now)

    def decide(self, ctx: RequestContext) -> None:
        ctx.decision = Decision((Candidate(self.decisions[min(self.decided, len(self.decisions) - 1)]),))
        self.decided += 1

    def start(self) -> "Wait":
        run_now(self._run())
        return self

    async def _run(self) -> None:
        try:
            await self.swap_wait.wait_for_swap(self.ctx)
        except ClientGone as error:
            self.errors.append(error)
        self.has_ended = True


async def test_only_servers_that_ran_short_of_memory_need_a_wait():
    wait = Wait(deployment_of("wanted"))
    assert wait.swap_wait.is_needed(wait.ctx)
    wait.queue.residency.smallest_overflow = 0
    assert not wait.swap_wait.is_needed(wait.ctx)
    other = Wait(deployment_of("wanted", on_demand=False))
    assert not other.swap_wait.is_needed(other.ctx)


async def test_a_call_for_the_loaded_model_does_not_wait():
    wait = Wait(deployment_of("busy")).start()
    assert (wait.has_ended, wait.decided, wait.ctx.queue_seconds) == (True, 1, 0.0)


async def test_a_call_waits_until_the_loaded_model_is_idle_and_is_routed_again():
    wait = Wait(deployment_of("wanted")).start()
    assert (wait.has_ended, wait.queue.waiting_calls) == (False, 1)
    wait.now = 107.0
    wait.queue.finish("busy", wait.now)
    assert (wait.has_ended, wait.decided, wait.ctx.queue_seconds) == (True, 2, 7.0)
    assert wait.client.upstream is None


async def test_a_call_that_is_routed_to_another_server_goes_there():
    wait = Wait(deployment_of("wanted"), deployment_of("wanted", "b", on_demand=False)).start()
    wait.queue.finish("busy", wait.now)
    assert wait.has_ended
    assert wait.ctx.decision.candidates[0].deployment.server.name == "b"


async def test_a_client_that_disconnects_leaves_the_queue():
    wait = Wait(deployment_of("wanted")).start()
    source: Source = wait.client.upstream
    source.pause()
    source.resume()
    wait.now = 103.0
    source.abort(ClientGone("The client disconnected."))
    assert (len(wait.errors), wait.queue.waiting_calls, wait.ctx.queue_seconds) == (1, 0, 3.0)
    assert wait.client.upstream is None


async def test_a_timer_lets_the_queue_enforce_fairness_and_ends_with_the_wait(monkeypatch: pytest.MonkeyPatch):
    timers: list[tuple[float, Callable[[], None], Mock]] = []

    def call_later(delay: float, callback: Callable[[], None]) -> Mock:
        timers.append((delay, callback, Mock()))
        return timers[-1][2]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    wait = Wait(deployment_of("wanted")).start()
    ((delay, enforce, handle),) = timers
    assert delay == wait.queue.fairness
    wait.now += delay
    enforce()
    assert wait.queue.request("busy", 6 * GIB, 2, wait.now, lambda: None) is not None  # it is closed to other models
    handle.cancel.assert_not_called()
    wait.queue.finish("busy", wait.now)
    assert wait.has_ended
    handle.cancel.assert_called_once_with()
