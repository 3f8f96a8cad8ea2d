"""Asynchronous runs of Victoria.

`/run?async_mode=true` answers 202 with a task, which is polled at `/run/status/{id}` until it is complete. Versions
without this mode send the complete response at once.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from penstock.domain.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.response import Chunk
from penstock.engines.base import FetchResponse, NextPoll
from penstock.engines.victoria.response import (
    ERROR_FIELDS,
    OUTPUT_FIELDS,
    TITLE,
    VictoriaReader,
    decode_json,
    find_text,
)

_RUNNING_STATUSES = frozenset({"queued", "pending", "accepted", "started", "running", "processing", "in_progress"})
_FINAL_STATUSES = frozenset({"completed", "failed"})
_MIN_DELAY, _MAX_DELAY, _GROWTH = 0.1, 2.0, 1.5  # seconds, seconds, factor per poll
_MAX_EXPONENT = 16  # keeps the power finite
_MAX_TEXT = 300  # bytes of a body that is not JSON


def compute_poll_delay(polls: int) -> float:
    """Return the seconds before the next poll: short for short runs, longer for long ones, to poll them rarely."""
    return float(min(_MAX_DELAY, _MIN_DELAY * _GROWTH ** min(polls, _MAX_EXPONENT)))


class RunReader(VictoriaReader):
    """Reader of one run, whose stages become steps."""

    def __init__(self, question_is_text: bool) -> None:
        super().__init__(question_is_text)
        self.next_poll: NextPoll | None = None
        self._poll_count = 0
        self._stage = ""

    def read_poll(self, fetched: FetchResponse) -> Iterator[Chunk]:
        """Return the chunks in the response to a poll."""
        if fetched.status == 404:
            raise UpstreamCut(f"{TITLE} no longer has this run, probably because it was restarted. Try again.")
        value = decode_json(fetched.body) if fetched.status < 300 else None
        if value is None:
            reason = find_text(_decode_error(fetched.body), ERROR_FIELDS) or "It gave no reason."
            raise UpstreamError(f"{TITLE} answered a poll of the run with status {fetched.status}: {reason}")
        yield from self._read_result(value)

    def _read_result(self, value: object) -> Iterator[Chunk]:
        if not _is_running(value):
            self.next_poll = None
            yield from super()._read_result(_unwrap_result(value))
            return
        self.next_poll = NextPoll(
            self.next_poll.path if self.next_poll else _status_path(value), compute_poll_delay(self._poll_count)
        )
        self._poll_count += 1
        stage = find_text(value, ("stage",))
        if stage and stage != self._stage and stage.lower() not in _RUNNING_STATUSES | _FINAL_STATUSES:
            self._stage = stage
            yield Chunk(step=stage)


def _is_running(value: object) -> bool:
    return isinstance(value, dict) and str(value.get("status")).lower() in _RUNNING_STATUSES


def _status_path(value: Any) -> str:
    """Return the path to poll. Only the task id comes from the server, so that it cannot name another address."""
    task_id = value.get("task_id")
    if not isinstance(task_id, str | int) or task_id == "":
        task_id = find_text(value, ("status_url",)).partition("?")[0].rstrip("/").rpartition("/")[2]
    if task_id == "":
        raise UpstreamGarbage(f"{TITLE} accepted the task but returned no task id. Look at its log.")
    return f"/run/status/{quote(str(task_id), safe='')}"


def _unwrap_result(value: object) -> object:
    """Return the response inside the status's `output`, where some versions put it."""
    if isinstance(value, dict):
        for name in OUTPUT_FIELDS:
            inner = value.get(name)
            if isinstance(inner, dict) and ("status" in inner or any(key in inner for key in OUTPUT_FIELDS)):
                return inner
    return value


def _decode_error(body: bytes) -> object:
    try:
        return decode_json(body)
    except UpstreamError:
        return body[:_MAX_TEXT].decode(errors="replace").strip()
