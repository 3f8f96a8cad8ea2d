"""Streams that survive their server: another one goes on from the text so far.

A call that may be gone on with is read and drawn by the gateway even where client and engine speak the same wire: what
was said must be known when the stream breaks, and the rest must look like the beginning.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace

from penstock.dialects.base import Endpoint
from penstock.domain.errors import ClientStalled, PenstockError, UpstreamGarbage
from penstock.domain.request import Call
from penstock.domain.response import Chunk, Usage
from penstock.domain.response_metadata import Provenance
from penstock.engines.base import ResponseReader
from penstock.gateway.client import Client
from penstock.gateway.resumable_stream import ResumableStream
from penstock.gateway.upstream.relay.translating import Translated

_WHOLE_REPEAT = 64
"""Characters of an answer's beginning that do not come again by chance: who says them again has started anew."""


class Joint:
    """Where the rest meets what was said: nothing doubled, nothing lost.

    Engines are given what was said without the white space at its end, since chat templates trim it, and say that white
    space again; it is dropped here. So is the whole beginning, when an engine says it once more.
    """

    __slots__ = ("_begun", "_held", "_space")

    def __init__(self, said: str) -> None:
        self._begun = said.rstrip()
        self._space = said[len(self._begun) :]
        self._held = ""
        if len(self._begun) < _WHOLE_REPEAT or _repetitive(self._begun):
            self._begun = ""

    def add(self, text: str) -> str:
        """What of the rest's next piece is new."""
        if not self._begun and not self._space:
            return text
        if self._begun:
            text = self._held + text
            if text != self._begun and self._begun.startswith(text):
                self._held = text
                return ""
            text = text.removeprefix(self._begun)
            self._begun = self._held = ""
        while self._space and text:
            if text[0] != self._space[0]:
                self._space = ""
                break
            text, self._space = text[1:], self._space[1:]
        return text

    def flush(self) -> str:
        """What was held back when the rest ends."""
        held, self._held, self._begun = self._held, "", ""
        return self.add(held)


def _repetitive(text: str) -> bool:
    """Whether a text is made of one part over and over, so that its beginning may well come again."""
    return text in (text + text)[1:-1] or any(text.endswith(text[:size]) for size in (16, 32))


class Resumable(Translated):
    """One server's part of a stream that may outlive it. While the stream can be gone on with, a break leaves the
    client's stream open: whoever awaits this goes on with another server or calls `give_up`."""

    __slots__ = ("_before", "_joint", "_stream")

    def __init__(
        self,
        client: Client,
        call: Call,
        endpoint: Endpoint,
        head: bytes,
        loop: asyncio.AbstractEventLoop,
        reader: ResponseReader,
        provenance: Provenance,
        stream: ResumableStream,
    ) -> None:
        super().__init__(client, call, endpoint, head, loop, reader, provenance)
        self._stream = stream
        self._before = stream.tokens
        self._joint: Joint | None = None
        if client.response_started and stream.renderer is not None and stream.provenance is not None:
            said = stream.text
            self._renderer = stream.renderer
            self._open = True
            self._said = len(said.encode())
            self._joint = Joint(said)
            stream.resumed += 1
            stream.provenance.resumed = stream.resumed
        else:
            stream.renderer, stream.provenance = self._renderer, provenance

    def on_failure(self, error: PenstockError) -> None:
        client, stream = self.client, self._stream
        if client.response_started and not client.is_disconnected and not isinstance(error, ClientStalled):
            if stream.finished:
                self.complete()
                return
            if stream.text_only:
                stream.interrupted = self
                self.settle(error)
                return
        stream.interrupted = None
        super().on_failure(error)

    def complete(self, finish: str = "") -> None:
        """End the client's stream well: its text is whole."""
        out = self._renderer.render_chunk(Chunk(finish=finish)) if finish else b""
        self.piece_count = self.piece_count or 1
        self._stream.interrupted = None
        self.client.write(out + self._counted() + self._renderer.render_end())
        self.client.finish()
        self.settle(None)

    def give_up(self, error: PenstockError) -> None:
        """Nobody can go on: end the client's stream with the error."""
        self._stream.interrupted = None
        self.client.upstream = None
        if not self.client.is_disconnected:
            self.broken(error)

    def finish(self, chunks: Iterable[Chunk]) -> None:
        super().finish(chunks)
        self._stream.interrupted = None

    def _take(self, chunks: Iterable[Chunk], last: bool = False) -> None:
        if self._joint is not None:
            chunks = self._joined(chunks, self._joint)
        super()._take(chunks, last)

    def _note(self, chunk: Chunk) -> None:
        if (
            not self.piece_count
            and self._joint is not None
            and self._renderer.content_type.startswith(b"text/event-stream")
        ):
            self.client.write(b": penstock resumed=%d\n\n" % self._stream.resumed)
        super()._note(chunk)
        self._stream.record_chunk(chunk)

    def _joined(self, chunks: Iterable[Chunk], joint: Joint) -> Iterator[Chunk]:
        for chunk in chunks:
            if chunk.thinking or chunk.tool_calls or chunk.refusal or chunk.step or chunk.choice:
                raise UpstreamGarbage("the engine did not go on with the answer, but said something else")
            text = joint.add(chunk.text) if chunk.text else ""
            if chunk.finish:
                text += joint.flush()
            usage = chunk.usage and self._summed(chunk.usage)
            if text or chunk.finish or usage:
                yield replace(chunk, text=text, usage=usage)

    def _summed(self, usage: Usage) -> Usage:
        """As if one server had said all of it: what was given back to it as a prompt counts as said."""
        return replace(
            usage,
            prompt_tokens=max(1, usage.prompt_tokens - self._before),
            completion_tokens=usage.completion_tokens + self._before,
            estimated=True,
        )
