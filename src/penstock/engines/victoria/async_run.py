"""Reads runs of Victoria that go on by themselves: `/run?async_mode=true` answers 202 with a task, and
`/run/status/{id}` tells how it goes, until the answer is there. Versions that know no such mode answer at once.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from penstock.domain.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.response import Chunk
from penstock.engines.base import FetchResponse, NextPoll
from penstock.engines.victoria.response import ERROR, OUTPUT, TITLE, Reader, parse, said

_UNDERWAY = frozenset({"queued", "pending", "accepted", "started", "running", "processing", "in_progress"})
_ENDS = frozenset({"completed", "failed"})
_SHORTEST, _LONGEST, _GROWTH = 0.1, 2.0, 1.5
_STEEPEST = 16  # looks after which the pause grows no more


def pause(looks: int) -> float:
    """Seconds to wait after so many looks: a short run is hardly held up, a long one hardly asked for."""
    return float(min(_LONGEST, _SHORTEST * _GROWTH ** min(looks, _STEEPEST)))


class RunReader(Reader):
    """One run. Each new stage of it is a step."""

    def __init__(self, ask_in_text: bool) -> None:
        super().__init__(ask_in_text)
        self.next_poll: NextPoll | None = None
        self._looks = 0
        self._stage = ""

    def read_poll(self, fetched: FetchResponse) -> Iterator[Chunk]:
        """What a look at the run tells."""
        if fetched.status == 404:
            raise UpstreamCut(f"{TITLE} no longer knows the run, so it was probably restarted: try again.")
        told = parse(fetched.body) if fetched.status < 300 else None
        if told is None:
            why = said(_object_in(fetched.body), ERROR) or "it did not say why"
            raise UpstreamError(f"{TITLE} answered {fetched.status} when it was asked how the run goes: {why}")
        yield from self._run(told)

    def _run(self, value: object) -> Iterator[Chunk]:
        if not _goes_on(value):
            self.next_poll = None
            yield from super()._run(_result(value))
            return
        self.next_poll = NextPoll(self.next_poll.path if self.next_poll else _place(value), pause(self._looks))
        self._looks += 1
        stage = said(value, ("stage",))
        if stage and stage != self._stage and stage.lower() not in _UNDERWAY | _ENDS:
            self._stage = stage
            yield Chunk(step=stage)


def _goes_on(value: object) -> bool:
    return isinstance(value, dict) and str(value.get("status")).lower() in _UNDERWAY


def _place(value: Any) -> str:
    """Where a run tells how it goes. Only its name is taken from what the server says: never another address."""
    name = value.get("task_id")
    if not isinstance(name, str | int) or name == "":
        name = said(value, ("status_url",)).partition("?")[0].rstrip("/").rpartition("/")[2]
    if name == "":
        raise UpstreamGarbage(f"{TITLE} took the task, but did not say by which name to ask for it.")
    return f"/run/status/{quote(str(name), safe='')}"


def _result(value: object) -> object:
    """An answer inside the status's `output`, where a version puts the whole of it there."""
    if isinstance(value, dict):
        for name in OUTPUT:
            inner = value.get(name)
            if isinstance(inner, dict) and ("status" in inner or any(key in inner for key in OUTPUT)):
                return inner
    return value


def _object_in(body: bytes) -> object:
    try:
        return parse(body)
    except UpstreamError:
        return body[:300].decode(errors="replace").strip()
