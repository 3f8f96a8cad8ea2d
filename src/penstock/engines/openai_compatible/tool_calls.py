"""Fragments of tool calls, each put to the call that it belongs to.

OpenAI's API numbers parallel calls by `index`. Servers leave it out, send 0 for each, or send a new random id with each
fragment of one call (vLLM until 0.8), so that the index alone decides nothing.
"""

from dataclasses import dataclass, field

import msgspec

from penstock.domain.response import ToolDelta


@dataclass(slots=True, eq=False)
class _OpenCall:
    """A call so far. `number` is its index in the gateway's chunks, `server_index` the server's."""

    number: int
    server_index: int | None
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    @property
    def has_complete_arguments(self) -> bool:
        """Return whether the arguments so far are complete JSON."""
        try:
            msgspec.json.decode("".join(self.arguments))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return False
        return True


class ToolCallCollector:
    """Collector of the calls of one choice."""

    __slots__ = ("_by_id", "_by_position", "_by_server_index", "_count", "_last")

    def __init__(self) -> None:
        self._by_id: dict[str, _OpenCall] = {}
        self._by_server_index: dict[int, _OpenCall] = {}
        self._by_position: dict[int, _OpenCall] = {}
        self._count = 0
        self._last: _OpenCall | None = None

    def add_fragment(self, fragment: ToolDelta, server_index: int | None, position: int | None) -> None:
        """Set the fragment's `index` to the number of its call.

        `position` is the fragment's place among several in one event, None where it is the only one.
        """
        call = self._find_call(fragment, server_index, position)
        if call is None:
            call = _OpenCall(self._count, server_index, fragment.id, fragment.name)
            self._count += 1
        self._last = call
        if server_index is not None:
            self._by_server_index[server_index] = call
        if position is not None:
            self._by_position[position] = call
        if fragment.id and fragment.id not in self._by_id:
            self._by_id[fragment.id] = call
        call.id = call.id or fragment.id
        call.name = call.name or fragment.name
        if fragment.arguments:
            call.arguments.append(fragment.arguments)
        fragment.index = call.number

    def _find_call(self, fragment: ToolDelta, server_index: int | None, position: int | None) -> _OpenCall | None:
        """Return the call that the fragment continues, None where it begins one."""
        known = self._by_id.get(fragment.id) if fragment.id else None
        if server_index is not None:
            current = self._by_server_index.get(server_index)
        elif known is not None:
            current = known
        else:
            current = self._last if position is None else self._by_position.get(position)
        if current is None:
            return None
        if fragment.id and current.id and fragment.id != current.id:
            if known is not None and known.server_index == server_index:
                return known
            is_new = bool(fragment.name) or not fragment.arguments
        else:
            is_new = _begins_again(current, fragment)
        return None if is_new else current


def _begins_again(call: _OpenCall, fragment: ToolDelta) -> bool:
    """Return whether a fragment without an id of its own begins another call: it has a name, and `call` is complete."""
    if not fragment.name or not call.name:
        return False
    has_arguments = any(part.strip() for part in call.arguments)
    if fragment.name != call.name and not has_arguments:
        return True
    is_repeated = fragment.name == call.name and not fragment.arguments.strip()
    return has_arguments and not is_repeated and call.has_complete_arguments
