"""Runs a call's coroutine without an asyncio task.

An asyncio task costs about 4 µs of a call in Python 3.11: a weak set of all tasks, a context and two turns of the loop.
A call needs none of these, since it waits for little but the outcome of its relay. `run_now` steps the coroutine at
once, and again as soon as what it awaits has a result, in the same turn of the loop. The coroutine may only await
`Outcome`s and asyncio futures. Anything that needs a task of its own, such as `asyncio.timeout`, is awaited as one:
`await loop.create_task(…)`. See docs/decisions/0001.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Outcome(Generic[T]):
    """Result that one coroutine waits for; like a future, but it resumes the coroutine at once.

    A class that has one such result may derive from it, which saves creating a second object for each call.
    """

    __slots__ = ("_resume_waiter", "is_settled", "value")

    def __init__(self) -> None:
        self.is_settled = False
        self.value: T | None = None
        self._resume_waiter: Callable[[], None] | None = None

    def settle(self, value: T) -> None:
        """Set the result and resume the waiting coroutine. Do nothing if there is a result already."""
        if self.is_settled:
            return
        self.is_settled = True
        self.value = value
        if self._resume_waiter is not None:
            self._resume_waiter()

    def set_waiter(self, resume: Callable[[], None]) -> None:
        """Set the function that resumes the waiting coroutine."""
        self._resume_waiter = resume

    def reset(self) -> None:
        """Discard the result, so that another can be awaited."""
        self.is_settled = False
        self._resume_waiter = None

    def __await__(self) -> "Generator[Outcome[T], None, T]":
        if not self.is_settled:
            yield self
        return self.value  # type: ignore[return-value]  # it is set once the outcome is settled


class CoroutineRunner:
    """Steps one coroutine until it returns. An error that escapes the coroutine is logged and ends it."""

    __slots__ = ("_send",)

    def __init__(self, coroutine: Coroutine[Any, None, None]) -> None:
        self._send = coroutine.send
        self._step()

    def _step(self, _: object = None) -> None:
        try:
            awaited = self._send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("An error escaped from the coroutine of a call.")
            return
        if isinstance(awaited, Outcome):
            awaited.set_waiter(self._step)
        elif isinstance(awaited, asyncio.Future):
            # A future checks by this mark that it was awaited and not yielded by mistake; tasks reset it, too.
            awaited._asyncio_future_blocking = False  # noqa: SLF001 (asyncio's protocol for awaiting)
            awaited.add_done_callback(self._step)
        else:
            log.error("A call awaited %r, which is neither an Outcome nor a future.", type(awaited))


run_now = CoroutineRunner
"""Runs a coroutine now. The class itself: a function around its constructor would cost every call 0.1 µs."""
