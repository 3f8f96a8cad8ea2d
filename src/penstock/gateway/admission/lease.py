"""One lease per generation: whoever got a slot returns it exactly once, when the stream closes, whatever happened."""

from types import TracebackType

from penstock.gateway.catalog import Live


class Lease:
    """A slot of a server, held while the block runs."""

    __slots__ = ("_live",)

    def __init__(self, live: Live) -> None:
        self._live = live

    def __enter__(self) -> None:
        self._live.running += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.running -= 1
