"""Runs a call's coroutine without an asyncio task.

A task costs about 4 µs of a call in Python 3.11: a weak set of all tasks, a context, two turns of the loop. A call
needs none of these: it waits for little else than its relay's outcome. `drive` steps the coroutine at once, and again
whenever what it waits for is there, in the same turn of the loop. Inside, only `Outcome`s and asyncio futures may be
awaited, so what needs a task of its own (anything with `asyncio.timeout`) is awaited as one:
`await loop.create_task(…)`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Outcome(Generic[T]):
    """A result that one driven coroutine waits for; like a future, but it resumes its waiter at once.

    A class that has one such result derives from it, which spares an object a call.
    """

    __slots__ = ("_resume", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self._resume: Callable[[], None] | None = None

    def settle(self, value: T) -> None:
        """The result is there; the first one counts."""
        if self.done:
            return
        self.done = True
        self.value = value
        if self._resume is not None:
            self._resume()

    def then(self, resume: Callable[[], None]) -> None:
        """Who is to be resumed."""
        self._resume = resume

    def again(self) -> None:
        """Forget the result: another is awaited."""
        self.done = False
        self._resume = None

    def __await__(self) -> "Generator[Outcome[T], None, T]":
        if not self.done:
            yield self
        return self.value  # type: ignore[return-value]  # set by now


class drive:  # noqa: N801 (used as a verb)
    """Run a coroutine from now on. It must answer for its own errors: what escapes it is logged and ends it."""

    __slots__ = ("_send",)

    def __init__(self, work: Coroutine[Any, None, None]) -> None:
        self._send = work.send
        self._step()

    def _step(self, _: object = None) -> None:
        try:
            awaited = self._send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("a call ended by an error that it should have told")
            return
        if isinstance(awaited, Outcome):
            awaited.then(self._step)
        elif isinstance(awaited, asyncio.Future):
            # the mark by which a future knows that it is awaited and not yielded by mistake; tasks take it back too
            awaited._asyncio_future_blocking = False  # noqa: SLF001 (asyncio's protocol for awaiting)
            awaited.add_done_callback(self._step)
        else:
            log.error("a call awaited something else than an outcome or a future: %r", type(awaited))
