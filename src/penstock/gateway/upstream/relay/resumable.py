"""Streams that survive the failure of their server: another one continues from the text sent so far.

Such a call is parsed and rendered by the gateway even where client and server speak the same wire: the sent text must
be known when the stream breaks, and the rest must look like the beginning.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace

from penstock.domain.errors import ClientStalled, PenstockError, UpstreamGarbage
from penstock.domain.response import Chunk, Usage
from penstock.engines.base import ResponseReader
from penstock.gateway.request_context import RequestContext
from penstock.gateway.resumable_stream import ResumableStream
from penstock.gateway.upstream.provenance import Origin
from penstock.gateway.upstream.relay.stream_splice import StreamSplice
from penstock.gateway.upstream.relay.translating import TranslatingRelay


class ResumableRelay(TranslatingRelay):
    """One server's part of a stream that may outlive it.

    While the stream can be continued, an interruption leaves the client's stream open: whoever awaits this relay lets
    another server continue, or calls `give_up`.
    """

    __slots__ = ("_splice", "_stream", "_tokens_before")

    def __init__(
        self,
        ctx: RequestContext,
        stream: ResumableStream,
        origin: Origin,
        reader: ResponseReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(ctx, origin, reader, loop)
        self._stream = stream
        self._tokens_before = stream.tokens
        self._splice: StreamSplice | None = None
        if self.client.response_started and stream.renderer is not None and stream.provenance is not None:
            sent_text = stream.text
            self._renderer = stream.renderer
            self._is_started = True
            self._text_bytes = len(sent_text.encode())
            self._splice = StreamSplice(sent_text)
            stream.resumed += 1
            stream.provenance.resumed = stream.resumed
        else:
            stream.renderer, stream.provenance = self._renderer, origin.provenance

    def on_failure(self, error: PenstockError) -> None:
        """Keep the client's stream open if another server can continue it."""
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
        """End the client's stream normally: its text is complete."""
        out = self._renderer.render_chunk(Chunk(finish=finish)) if finish else b""
        self.piece_count = self.piece_count or 1
        self._stream.interrupted = None
        self.client.write(out + self._render_estimated_usage() + self._renderer.render_end())
        self.client.finish()
        self.settle(None)

    def give_up(self, error: PenstockError) -> None:
        """End the client's stream with the error: no server can continue it."""
        self._stream.interrupted = None
        if not self.client.is_disconnected:
            self._send_error(error)

    def _finish(self, chunks: Iterable[Chunk]) -> None:
        super()._finish(chunks)
        self._stream.interrupted = None

    def _relay_chunks(self, chunks: Iterable[Chunk], is_last: bool = False) -> None:
        if self._splice is not None:
            chunks = self._splice_chunks(chunks, self._splice)
        super()._relay_chunks(chunks, is_last)

    def _record_chunk(self, chunk: Chunk) -> None:
        is_continuation = self._splice is not None
        if is_continuation and not self.piece_count and self._renderer.content_type.startswith(b"text/event-stream"):
            self.client.write(b": penstock resumed=%d\n\n" % self._stream.resumed)
        super()._record_chunk(chunk)
        self._stream.record_chunk(chunk)

    def _splice_chunks(self, chunks: Iterable[Chunk], splice: StreamSplice) -> Iterator[Chunk]:
        for chunk in chunks:
            if chunk.thinking or chunk.tool_calls or chunk.refusal or chunk.step or chunk.choice:
                raise UpstreamGarbage(
                    "The server did not continue the interrupted response: it sent a tool call or a new response."
                )
            text = splice.add_text(chunk.text) if chunk.text else ""
            if chunk.finish:
                text += splice.flush()
            usage = chunk.usage and self._add_earlier_usage(chunk.usage)
            if text or chunk.finish or usage:
                yield replace(chunk, text=text, usage=usage)

    def _add_earlier_usage(self, usage: Usage) -> Usage:
        """Return the usage as if one server had sent all of it: text that it got as a prompt counts as generated."""
        return replace(
            usage,
            prompt_tokens=max(1, usage.prompt_tokens - self._tokens_before),
            completion_tokens=usage.completion_tokens + self._tokens_before,
            estimated=True,
        )
