"""Probe of a Victoria server."""

from collections.abc import Generator

from penstock.domain.errors import UpstreamError
from penstock.domain.fleet import Inventory, Model, State
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.json_fields import decode_object
from penstock.engines.victoria.errors import find_error_reason
from penstock.engines.victoria.response import TITLE, find_text

_MODEL = Model("victoria", capabilities=frozenset({"agent", "completion"}))
_UP_STATUSES = frozenset({"ok", "healthy"})
_LOADING_STATUSES = frozenset({"starting", "initializing", "loading"})
_OTHER_SERVER = f"The server at this address is not {TITLE}"


def inspect_server() -> Generator[FetchRequest, FetchResponse, Inventory]:
    """Read `/health`. If it names no agent, `/status` must exist as well."""
    response = yield FetchRequest("/health")
    health = decode_object(response.body)
    status = str(health.get("status", "")).lower()
    is_loading = status in _LOADING_STATUSES
    if response.status >= 500 and not is_loading:
        reason = find_error_reason(response.body) or "It gave no reason."
        raise UpstreamError(f"{TITLE} answered /health with status {response.status}: {reason}")
    if not status or (response.status >= 400 and not is_loading):
        raise UpstreamError(f"{_OTHER_SERVER}: its /health has no `status`. Check VICTORIA_URL.")
    if "agent" not in health and (yield FetchRequest("/status", optional=True)).status != 200:
        raise UpstreamError(f"{_OTHER_SERVER}: its /health has no `agent` and /status is missing. Check VICTORIA_URL.")
    version = find_text(health, ("version",))
    if status in _UP_STATUSES:
        return Inventory((_MODEL,), State.UP, version, detail=find_text(health, ("agent",)))
    state = State.LOADING if is_loading else State.DOWN
    return Inventory((_MODEL,), state, version, detail=f"its status is {status}")
