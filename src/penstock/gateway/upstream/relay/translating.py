"""Translating an engine's answer: a reader makes chunks of its bytes, a writer draws them for the client."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from penstock.dialects.base import Endpoint, Renderer
from penstock.domain.errors import PenstockError, UpstreamCut
from penstock.domain.request import Call
from penstock.domain.response import Chunk, Usage, assemble_response
from penstock.domain.response_metadata import Provenance
from penstock.engines.base import ResponseReader
from penstock.gateway.client import Client
from penstock.gateway.upstream.relay.base import Relay

BYTES_PER_TOKEN = 4
"""A rule of thumb for Latin text and common vocabularies, for engines that do not count."""


class Translated(Relay):
    """One translated answer, streamed or whole as the call asks; the engine may be read either way."""

    __slots__ = ("_chunks", "_reader", "_renderer", "_said", "_started_at", "provenance")

    def __init__(
        self,
        client: Client,
        call: Call,
        endpoint: Endpoint,
        head: bytes,
        loop: asyncio.AbstractEventLoop,
        reader: ResponseReader,
        provenance: Provenance,
    ) -> None:
        super().__init__(client, call, endpoint, head, loop)
        self.provenance = provenance
        self._reader = reader
        self._renderer: Renderer = endpoint.create_renderer(call, provenance)
        self._chunks: list[Chunk] = []
        self._said = 0  # bytes of text and thinking
        self._started_at = loop.time()

    def opened(self, length: int | None) -> None:
        pass

    def piece(self, data: bytes) -> None:
        self._take(self._reader.feed(data))

    def _take(self, chunks: Iterable[Chunk], last: bool = False) -> None:
        if not self.call.stream:
            for chunk in chunks:
                self._note(chunk)
                self._chunks.append(chunk)
            return
        out = b""
        draw = self._renderer.render_chunk
        try:
            for chunk in chunks:
                self._note(chunk)
                out += draw(chunk)
            if last:
                out += self._counted() + self._renderer.render_end()
        finally:  # what came before a mistake in the same piece is the client's all the same
            if out:
                self._write(out)

    def _write(self, out: bytes) -> None:
        if self._open:
            self.client.write(out)
        else:
            self._open = True
            self.client.start_response(self._renderer.content_type, self._head, out)

    def _note(self, chunk: Chunk) -> None:
        self.piece_count += 1
        self._said += len(chunk.text.encode()) + len(chunk.thinking.encode())
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not self.first_at:
            self.first_at = self.loop.time()

    def _counted(self) -> bytes:
        """What tells a stream's reader of the tokens when the engine has not."""
        if self.usage is not None or not self.piece_count:
            return b""
        self.usage = estimate(self.call, self._said)
        return self._renderer.render_chunk(Chunk(usage=self.usage))

    def closed(self, is_delimited: bool) -> None:
        self.finish(self._reader.close())

    def finish(self, chunks: Iterable[Chunk]) -> None:
        """Deliver the last chunks, and with them the answer."""
        self._take(chunks, last=True)
        if self.call.stream:
            if not self._open:
                raise UpstreamCut("the engine ended its stream without an answer")
            self.client.finish()
        else:
            answer = assemble_response(self._chunks)
            if answer.usage is None and not answer.vectors:
                self.usage = estimate(self.call, self._said)
                answer = replace(answer, usage=self.usage)
            now = self.loop.time()
            told = self.provenance
            told.ttft_seconds = (self.first_at or now) - self._started_at
            told.total_seconds = now - self._started_at
            body = self._renderer.render_response(answer, told)
            self.client.send_response(200, self._renderer.content_type, self._head, body)
        self.settle(None)

    def broken(self, error: PenstockError) -> None:
        self.client.write(self._renderer.render_error(error))
        self.client.finish()


def estimate(call: Call, said: int) -> Usage:
    """Tokens by the length of the request and of what was said, in bytes; marked as estimated."""
    return Usage(
        prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN),
        completion_tokens=max(1, said // BYTES_PER_TOKEN),
        estimated=True,
    )
