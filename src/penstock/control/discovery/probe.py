"""One probe of one server: its engine says what to fetch, the fetch function that is handed in fetches it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.control.discovery.health import ProbeResult
from penstock.control.discovery.name_resolution import UrlResolver
from penstock.domain.errors import ListingUnavailable, PenstockError, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server, State
from penstock.engines.base import Engine, FetchFunction, FetchRequest, FetchResponse

MAX_FETCHES = 2000
"""Requests in one probe; an engine module that makes more is faulty."""

TIMEOUT_GRACE = 0.25
"""Seconds beyond the timeout before a probe is cancelled, so that an optional last fetch can time out first."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A server to probe, and the loop time at which the probe must be complete."""

    server: Server
    engine: Engine
    known_models: tuple[Model, ...]
    deadline: float


class Prober:
    """Probes servers. `clock` gives monotonic seconds, `timeout` limits a whole probe."""

    def __init__(self, fetch: FetchFunction, clock: Callable[[], float], timeout: float, resolver: UrlResolver) -> None:
        self._fetch = fetch
        self._clock = clock
        self._timeout = timeout
        self._resolver = resolver

    async def probe_server(
        self, server: Server, engine: Engine, known_models: tuple[Model, ...], *, fresh: bool = False
    ) -> ProbeResult:
        """Probe all addresses of a server in parallel; the first of them, in their order, that answers counts.

        `fresh`: resolve its names again. Never raises except for cancellation: every other error is in the result.
        """
        target = _Target(server, engine, known_models, self._clock() + self._timeout)
        return await _find_first_success([self._probe_hostname(target, url, fresh) for url in server.urls])

    async def _probe_hostname(self, target: _Target, url: str, fresh: bool) -> ProbeResult:
        """Probe all addresses that a name resolves to."""
        addresses = await self._resolver.resolve_url(url, fresh)
        return await _find_first_success([self._probe_address(target, address) for address in addresses or (url,)])

    async def _probe_address(self, target: _Target, url: str) -> ProbeResult:
        started_at = self._clock()
        response_times: list[float] = []

        async def fetch(request: FetchRequest) -> FetchResponse:
            seconds_left = target.deadline - self._clock()
            if seconds_left <= 0:
                raise self._timeout_error(url)
            response = await self._fetch(target.server, url, request, seconds_left)
            response_times.append(self._clock() - started_at)
            return response

        try:
            async with asyncio.timeout(max(0.0, target.deadline - started_at) + TIMEOUT_GRACE):
                inventory = await _run_inspection(target.engine, target.known_models, fetch)
        except ListingUnavailable as error:
            if not target.server.models:
                return ProbeResult(error=error)
            inventory = Inventory(state=State.UP, detail="it lists no models: those of its settings are assumed")
        except TimeoutError:
            return ProbeResult(error=self._timeout_error(url))
        except Exception as error:  # an engine module that cannot cope with a response fails this server only
            return ProbeResult(error=error)
        return ProbeResult(inventory, url, response_times[0] if response_times else 0.0)

    def _timeout_error(self, url: str) -> UpstreamTimeout:
        return UpstreamTimeout(f"{url} did not answer within {self._timeout:g} s.")


async def _run_inspection(
    engine: Engine, known_models: tuple[Model, ...], fetch: Callable[[FetchRequest], Awaitable[FetchResponse]]
) -> Inventory:
    """Run an engine's inspection. A failed optional fetch becomes status 0; any other failure is thrown into it."""
    steps = engine.inspect_server(known_models)
    try:
        request = next(steps)
        for _ in range(MAX_FETCHES):
            try:
                response = await fetch(request)
            except PenstockError as error:
                request = steps.send(FetchResponse(0)) if request.optional else steps.throw(error)
            else:
                request = steps.send(response)
    except StopIteration as end:
        inventory: Inventory = end.value
        return inventory
    finally:
        steps.close()
    raise UpstreamGarbage(f"Its inspection took more than {MAX_FETCHES} requests.")


async def _find_first_success(probes: Sequence[Coroutine[Any, Any, ProbeResult]]) -> ProbeResult:
    """Run probes in parallel. Return the first, in their order, that found something, else their combined failure."""
    if len(probes) == 1:
        return await probes[0]
    tasks = [asyncio.create_task(probe) for probe in probes]
    try:
        results: list[ProbeResult] = []
        for task in tasks:
            results.append(await task)
            if results[-1].inventory:
                return results[-1]
        return _combine_failures(results)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _combine_failures(results: list[ProbeResult]) -> ProbeResult:
    """Return one result for addresses that all failed: an unexpected error first, else all their messages."""
    errors = [result.error for result in results if result.error]
    unexpected = [error for error in errors if not isinstance(error, PenstockError)]
    if unexpected or len({type(error) for error in errors}) != 1:
        return ProbeResult(error=unexpected[0] if unexpected else errors[0])
    messages = "; ".join(dict.fromkeys(str(error) for error in errors))
    return ProbeResult(error=type(errors[0])(messages))
