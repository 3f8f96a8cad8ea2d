"""Cuts a stream of chunks into the blocks (thinking, text, refusal, tool calls) that some wires are made of.

Such wires open a block, add to it and close it; chunks only say what they add. Blocks follow one another, but for tool
calls whose fragments an engine mixes: one that is not yet whole stays open beside its successors.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage

THINKING = "thinking"
TEXT = "text"
REFUSAL = "refusal"
TOOL = "tool"


@dataclass(slots=True, eq=False)
class Block:
    """A run of one kind. `head` is the writer's own: what every addition to it begins with."""

    kind: str
    id: str = ""
    name: str = ""
    index: int = 0
    head: bytes = b""
    signature: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Whether this is a tool call whose arguments are all there."""
        return is_object(self.text)


class BlockRenderer(ABC):
    """Keeps the blocks of one answer in order; a wire says how they are drawn.

    An agent's steps are drawn as thinking. Choices other than the first are left out: these wires have but one.
    """

    def __init__(self) -> None:
        self.finish = ""
        self.stop_sequence = ""
        self.usage: Usage | None = None
        self.called = False
        self._started = False
        self._text: Block | None = None
        self._current: Block | None = None
        self._calls: dict[int, Block] = {}
        self._open: list[Block] = []

    def render_chunk(self, chunk: Chunk) -> bytes:
        """The events that this chunk adds."""
        text = chunk.text
        if (
            (block := self._text) is not None
            and text
            and not (
                chunk.finish
                or chunk.thinking
                or chunk.tool_calls
                or chunk.usage
                or chunk.choice
                or chunk.logprobs
                or chunk.refusal
                or chunk.thinking_signature
                or chunk.stop_sequence
                or chunk.step
            )
        ):
            block.pieces.append(text)
            return self._delta(block, text)
        return b"".join(self._events(chunk))

    @abstractmethod
    def _start(self) -> bytes:
        """What opens the stream."""

    @abstractmethod
    def _begin(self, block: Block) -> bytes:
        """What opens a block; sets its index and head."""

    @abstractmethod
    def _delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        """What adds to a block."""

    @abstractmethod
    def _end(self, block: Block) -> bytes:
        """What closes a block."""

    def _begun(self) -> bytes:
        """What opens the stream, unless that is done."""
        if self._started:
            return b""
        self._started = True
        return self._start()

    def _unfinished(self) -> list[Block]:
        """The blocks that are open, in the order of their beginnings."""
        return [*self._open, self._current] if self._current is not None else self._open

    def _finished(self) -> Iterator[bytes]:
        """Opens what was never opened, closes what is open."""
        yield self._begun()
        for block in self._unfinished():
            yield self._end(block)
        self._open, self._current, self._text = [], None, None

    def _events(self, chunk: Chunk) -> Iterator[bytes]:
        yield self._begun()
        self.usage = chunk.usage or self.usage
        if chunk.choice:
            return
        if chunk.step:
            yield from self._add(THINKING, f"{chunk.step}\n")
        if chunk.thinking or chunk.thinking_signature:
            yield from self._add(THINKING, chunk.thinking, signature=chunk.thinking_signature)
        if chunk.text or (chunk.logprobs and self._text is not None):
            yield from self._add(TEXT, chunk.text, chunk.logprobs)
        if chunk.refusal:
            yield from self._add(REFUSAL, chunk.refusal)
        for delta in chunk.tool_calls:
            yield from self._call(delta)
        self.finish = chunk.finish or self.finish
        self.stop_sequence = chunk.stop_sequence or self.stop_sequence

    def _add(self, kind: str, text: str, logprobs: tuple[Logprob, ...] = (), signature: str = "") -> Iterator[bytes]:
        block = self._current
        if block is None or block.kind != kind:
            yield from self._close_current()
            yield from self._close_calls()
            block = self._current = Block(kind)
            self._text = block if kind == TEXT else None
            yield self._begin(block)
        if text or logprobs:
            block.pieces.append(text)
            yield self._delta(block, text, logprobs)
        block.signature = signature or block.signature

    def _call(self, delta: ToolDelta) -> Iterator[bytes]:
        block = self._calls.get(delta.index)
        if block is None:
            yield from self._close_current()
            yield from self._close_calls()
            block = self._calls[delta.index] = Block(TOOL, delta.id, delta.name)
            self._open.append(block)
            self.called = True
            yield self._begin(block)
        if delta.arguments and block in self._open:
            block.pieces.append(delta.arguments)
            yield self._delta(block, delta.arguments)

    def _close_current(self) -> Iterator[bytes]:
        if self._current is not None:
            yield self._end(self._current)
            self._current = self._text = None

    def _close_calls(self) -> Iterator[bytes]:
        """Ends the tool calls to which nothing can be added any more."""
        for block in [block for block in self._open if block.whole]:
            self._open.remove(block)
            yield self._end(block)


def is_object(text: str) -> bool:
    """Whether this is one whole JSON object, as a tool call's arguments should be."""
    try:
        return text.lstrip().startswith("{") and msgspec.json.decode(text) is not None
    except (msgspec.DecodeError, RecursionError):
        return False
