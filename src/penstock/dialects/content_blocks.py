"""Grouping a stream of chunks into blocks (thinking, text, refusal, tool call), the units of some wires.

Such wires open a block, add to it and close it; chunks only carry what is added. Blocks follow one another, except
for tool calls whose fragments an engine interleaves: an incomplete tool call stays open beside its successors.
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
    """A run of content of one kind. `delta_prefix` is the rendered beginning of each event that adds to the block."""

    kind: str
    id: str = ""
    name: str = ""
    index: int = 0
    delta_prefix: bytes = b""
    signature: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)

    @property
    def joined_text(self) -> str:
        """Return the text so far."""
        return "".join(self.pieces)

    @property
    def has_complete_arguments(self) -> bool:
        """Return whether this is a tool call with complete arguments."""
        return is_object(self.joined_text)


class BlockRenderer(ABC):
    """Base of renderers that keeps the blocks of one response in order; subclasses render them for their wire.

    An agent's steps become thinking. Choices other than the first are ignored: these wires have only one.
    """

    def __init__(self) -> None:
        self.finish = ""
        self.stop_sequence = ""
        self.usage: Usage | None = None
        self.has_tool_calls = False
        self._started = False
        self._text: Block | None = None
        self._current: Block | None = None
        self._tool_calls: dict[int, Block] = {}
        self._open_tool_calls: list[Block] = []

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Render the events that this chunk adds. Plain text in an open text block takes the short way."""
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
            return self._render_delta(block, text)
        return b"".join(self._render_events(chunk))

    @abstractmethod
    def _render_start(self) -> bytes:
        """Render the opening events of the stream."""

    @abstractmethod
    def _open_block(self, block: Block) -> bytes:
        """Render the opening events of a block; set its `index` and `delta_prefix`."""

    @abstractmethod
    def _render_delta(self, block: Block, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        """Render the event that adds `text` to a block."""

    @abstractmethod
    def _close_block(self, block: Block) -> bytes:
        """Render the closing events of a block."""

    def _start_once(self) -> bytes:
        """Render the opening events unless they have been rendered."""
        if self._started:
            return b""
        self._started = True
        return self._render_start()

    def _list_open_blocks(self) -> list[Block]:
        """Return the open blocks in the order in which they were opened."""
        return [*self._open_tool_calls, self._current] if self._current is not None else self._open_tool_calls

    def _close_all_blocks(self) -> Iterator[bytes]:
        """Yield the opening events if they are missing, then the closing events of all open blocks."""
        yield self._start_once()
        for block in self._list_open_blocks():
            yield self._close_block(block)
        self._open_tool_calls, self._current, self._text = [], None, None

    def _render_events(self, chunk: Chunk) -> Iterator[bytes]:
        yield self._start_once()
        self.usage = chunk.usage or self.usage
        if chunk.choice:
            return
        if chunk.step:
            yield from self._add_text(THINKING, f"{chunk.step}\n")
        if chunk.thinking or chunk.thinking_signature:
            yield from self._add_text(THINKING, chunk.thinking, signature=chunk.thinking_signature)
        if chunk.text or (chunk.logprobs and self._text is not None):
            yield from self._add_text(TEXT, chunk.text, chunk.logprobs)
        if chunk.refusal:
            yield from self._add_text(REFUSAL, chunk.refusal)
        for delta in chunk.tool_calls:
            yield from self._add_tool_delta(delta)
        self.finish = chunk.finish or self.finish
        self.stop_sequence = chunk.stop_sequence or self.stop_sequence

    def _add_text(
        self, kind: str, text: str, logprobs: tuple[Logprob, ...] = (), signature: str = ""
    ) -> Iterator[bytes]:
        block = self._current
        if block is None or block.kind != kind:
            yield from self._close_current()
            yield from self._close_complete_tool_calls()
            block = self._current = Block(kind)
            self._text = block if kind == TEXT else None
            yield self._open_block(block)
        if text or logprobs:
            block.pieces.append(text)
            yield self._render_delta(block, text, logprobs)
        block.signature = signature or block.signature

    def _add_tool_delta(self, delta: ToolDelta) -> Iterator[bytes]:
        block = self._tool_calls.get(delta.index)
        if block is None:
            yield from self._close_current()
            yield from self._close_complete_tool_calls()
            block = self._tool_calls[delta.index] = Block(TOOL, delta.id, delta.name)
            self._open_tool_calls.append(block)
            self.has_tool_calls = True
            yield self._open_block(block)
        if delta.arguments and block in self._open_tool_calls:
            block.pieces.append(delta.arguments)
            yield self._render_delta(block, delta.arguments)

    def _close_current(self) -> Iterator[bytes]:
        if self._current is not None:
            yield self._close_block(self._current)
            self._current = self._text = None

    def _close_complete_tool_calls(self) -> Iterator[bytes]:
        """Close the tool calls whose arguments are complete."""
        for block in [block for block in self._open_tool_calls if block.has_complete_arguments]:
            self._open_tool_calls.remove(block)
            yield self._close_block(block)


def is_object(text: str) -> bool:
    """Return whether a text is one complete JSON object, as the arguments of a tool call should be."""
    try:
        return text.lstrip().startswith("{") and msgspec.json.decode(text) is not None
    except (msgspec.DecodeError, RecursionError):
        return False
