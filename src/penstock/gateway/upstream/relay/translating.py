"""Translate a response: a reader parses the server's bytes to chunks, a renderer encodes them for the client."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from penstock.dialects.base import Renderer
from penstock.domain.errors import PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.fleet import Deployment
from penstock.domain.request import BYTES_PER_TOKEN, Call
from penstock.domain.response import Chunk, Usage, assemble_response, clamp_usage
from penstock.engines.base import FetchFunction, ResponseReader
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.provenance import Origin
from penstock.gateway.upstream.relay.base import Relay

MAX_UNSTREAMED_BYTES = 257 << 20
"""Bytes of a response that is held until it is complete. Readers have limits of their own for one body or event."""
MAX_UNSTREAMED_PIECES = 1 << 18


class TranslatingRelay(Relay):
    """Relay of one translated response, streamed or not as the call asks; the server may send it either way."""

    __slots__ = (
        "_chunks", "_first_chunk_at", "_pieces_at_check", "_provenance", "_reader", "_received_bytes", "_renderer",
        "_started_at", "_text_bytes", "loop",
    )  # fmt: skip

    def __init__(
        self, ctx: RequestContext, origin: Origin, reader: ResponseReader, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(ctx, origin.headers)
        self.loop = loop
        self._provenance = origin.provenance
        self._reader = reader
        self._renderer: Renderer = ctx.endpoint.create_renderer(ctx.call, origin.provenance)
        self._chunks: list[Chunk] = []
        self._received_bytes = 0
        self._pieces_at_check = 0
        self._text_bytes = 0  # of text and thinking
        self._first_chunk_at = 0.0
        self._started_at = loop.time()

    async def follow_up(self, deployment: Deployment, fetch: FetchFunction, timeout: float) -> None:  # noqa: ASYNC109
        """Get the rest of a response that is not complete when it ends. Only servers with long runs have a rest."""

    def _start(self, content_length: bytes | None) -> None:
        pass

    def has_progressed(self) -> bool:
        """Return whether a stream's server has sent content since the last call: pings alone do not keep it alive."""
        if not self.call.stream:
            return True
        before, self._pieces_at_check = self._pieces_at_check, self.piece_count
        return self.piece_count > before

    def _relay_data(self, data: bytes) -> None:
        if not self.call.stream:
            self._received_bytes += len(data)
            if self._received_bytes > MAX_UNSTREAMED_BYTES or len(self._chunks) > MAX_UNSTREAMED_PIECES:
                raise UpstreamGarbage("The server's response is too long to be held in memory. Ask for a stream.")
        self._relay_chunks(self._reader.feed(data))

    def _relay_chunks(self, chunks: Iterable[Chunk], is_last: bool = False) -> None:
        if not self.call.stream:
            for chunk in chunks:
                self._record_chunk(chunk)
                self._chunks.append(chunk)
            return
        out = b""
        render_chunk = self._renderer.render_chunk
        try:
            for chunk in chunks:
                self._record_chunk(chunk)
                out += render_chunk(chunk)
            if is_last:
                out += self._render_estimated_usage() + self._renderer.render_end()
        finally:  # send what was decoded before an error
            if out:
                self._write(out)

    def _write(self, data: bytes) -> None:
        if self._is_started:
            self.client.write(data)
        else:
            self._is_started = True
            self.client.start_response(self._renderer.content_type, self._provenance_headers, data)

    def _record_chunk(self, chunk: Chunk) -> None:
        self.piece_count += 1
        self._text_bytes += len(chunk.text.encode()) + len(chunk.thinking.encode())
        if chunk.usage is not None:
            self.usage = chunk.usage = clamp_usage(chunk.usage)
        if not self._first_chunk_at:
            self._first_chunk_at = self.loop.time()

    def _render_estimated_usage(self) -> bytes:
        """Return a stream's usage chunk where the server has reported none."""
        if self.usage is not None or not self.piece_count:
            return b""
        self.usage = estimate_usage(self.call, self._text_bytes)
        return self._renderer.render_chunk(Chunk(usage=self.usage))

    def _complete(self, is_delimited: bool) -> None:
        self._finish(self._reader.close(is_delimited))

    def _finish(self, chunks: Iterable[Chunk]) -> None:
        """Deliver the last chunks, and with them the response."""
        self._relay_chunks(chunks, is_last=True)
        if self.call.stream:
            if not self._is_started:
                raise UpstreamCut("The server ended its stream without a response.")
            self.client.finish()
        else:
            self._send_response()
        self.settle(None)

    def _send_response(self) -> None:
        response = assemble_response(self._chunks)
        if response.usage is None and not response.vectors:
            self.usage = estimate_usage(self.call, self._text_bytes)
            response = replace(response, usage=self.usage)
        now, provenance = self.loop.time(), self._provenance
        provenance.ttft_seconds = (self._first_chunk_at or now) - self._started_at
        provenance.total_seconds = now - self._started_at
        body = self._renderer.render_response(response, provenance)
        self.client.send_response(200, self._renderer.content_type, self._provenance_headers, body)

    def _send_error(self, error: PenstockError) -> None:
        self.client.write(self._renderer.render_error(error))
        self.client.finish()


def estimate_usage(call: Call, text_bytes: int) -> Usage:
    """Estimate token counts from the bytes of the request's body and of the response's text."""
    return Usage(
        prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN),
        completion_tokens=max(1, text_bytes // BYTES_PER_TOKEN),
        estimated=True,
    )
