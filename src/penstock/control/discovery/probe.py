"""One look at one server: its engine says what to fetch, the client that is handed in fetches it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from penstock.control.discovery.health import Sight
from penstock.control.discovery.name_resolution import Names
from penstock.domain.errors import PenstockError, UpstreamGarbage, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server
from penstock.engines.base import Engine, FetchFunction, FetchRequest, FetchResponse

"""Fetches something: server, base URL, what, time-out in seconds. Raises PenstockError; limits the body's size."""

MOST_FETCHES = 2000
"""More than this is not a look but a fault of the engine's module."""

GRACE = 0.25
"""Seconds beyond the time-out before a look is broken off from outside: lets an optional last fetch time out first."""


class Look:
    """Looks at servers; holds what all looks share. `clock` gives monotonic seconds, `timeout` bounds a whole look."""

    def __init__(self, fetch: FetchFunction, clock: Callable[[], float], timeout: float, names: Names) -> None:
        self._fetch = fetch
        self._clock = clock
        self._timeout = timeout
        self._names = names

    async def at(self, server: Server, engine: Engine, known: tuple[Model, ...], *, fresh: bool = False) -> Sight:
        """Look at all addresses of a server at once; the first in their order that answers is what counts.

        `fresh`: what was known of its names is not believed any more. Never raises (but for cancellation): whatever
        goes wrong is in the sight.
        """
        until = self._clock() + self._timeout
        return await _first([self._by_name(server, url, engine, known, until, fresh) for url in server.urls])

    async def _by_name(
        self, server: Server, url: str, engine: Engine, known: tuple[Model, ...], until: float, fresh: bool
    ) -> Sight:
        """Look at all that a name stands for."""
        found = await self._names.numbered(url, fresh)
        return await _first([self._through(server, each, engine, known, until) for each in found or (url,)])

    async def _through(self, server: Server, url: str, engine: Engine, known: tuple[Model, ...], until: float) -> Sight:
        began = self._clock()
        answered: list[float] = []

        async def fetch(what: FetchRequest) -> FetchResponse:
            left = until - self._clock()
            if left <= 0:
                raise UpstreamTimeout(f"{url} did not answer within {self._timeout:g} s")
            fetched = await self._fetch(server, url, what, left)
            answered.append(self._clock() - began)
            return fetched

        try:
            async with asyncio.timeout(max(0.0, until - began) + GRACE):
                inventory = await _drive(engine, known, fetch)
        except TimeoutError:
            return Sight(error=UpstreamTimeout(f"{url} did not answer within {self._timeout:g} s"))
        except Exception as error:  # whatever a server makes an engine's module do costs that server only
            return Sight(error=error)
        return Sight(inventory, url, answered[0] if answered else 0.0)


async def _drive(
    engine: Engine, known: tuple[Model, ...], fetch: Callable[[FetchRequest], Awaitable[FetchResponse]]
) -> Inventory:
    """Run an engine's inspection; a failed optional fetch comes back as status 0, another failure is thrown in."""
    steps = engine.inspect_server(known)
    try:
        wanted = next(steps)
        for _ in range(MOST_FETCHES):
            try:
                fetched = await fetch(wanted)
            except PenstockError as error:
                wanted = steps.send(FetchResponse(0)) if wanted.optional else steps.throw(error)
            else:
                wanted = steps.send(fetched)
    except StopIteration as end:
        inventory: Inventory = end.value
        return inventory
    finally:
        steps.close()
    raise UpstreamGarbage(f"looking at it took more than {MOST_FETCHES} requests")


async def _first(looks: Sequence[Coroutine[Any, Any, Sight]]) -> Sight:
    """All looks at once; the first of them, in their order, that found something, else what they all say."""
    if len(looks) == 1:
        return await looks[0]
    tasks = [asyncio.create_task(look) for look in looks]
    try:
        sights: list[Sight] = []
        for task in tasks:
            sights.append(await task)
            if sights[-1].inventory:
                return sights[-1]
        return _none_of(sights)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _none_of(sights: list[Sight]) -> Sight:
    """One sight for addresses of which none answered: the first error, and what the others said."""
    errors = [sight.error for sight in sights if sight.error]
    unexpected = [error for error in errors if not isinstance(error, PenstockError)]
    if unexpected or len({type(error) for error in errors}) != 1:
        chosen = unexpected[0] if unexpected else errors[0]
        return Sight(error=chosen)
    said = "; ".join(dict.fromkeys(str(error) for error in errors))
    return Sight(error=type(errors[0])(said))
