"""Streams that survive their server: another one goes on from the text so far.

A call that may be gone on with is read and drawn by the gateway even where client and engine speak the same wire: what
was said must be known when the stream breaks, and the rest must look like the beginning.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace

from penstock.dialects.base import Endpoint, Renderer
from penstock.domain.content import Chat, Completion, Content
from penstock.domain.errors import ClientStalled, PenstockError, Unsupported, UpstreamGarbage
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, Usage
from penstock.domain.response_metadata import Provenance
from penstock.domain.resumption import is_resumable, reduce_token_limit
from penstock.engines.base import Engine, EngineRequest, ResponseReader
from penstock.gateway.client import Client
from penstock.gateway.upstream.relay.translating import Translated

_WHOLE_REPEAT = 64
"""Characters of an answer's beginning that do not come again by chance: who says them again has started anew."""


class Thread:
    """One client's stream, whoever feeds it: what was said so far, and what draws it.

    `text` is what the client has got; `tokens` how many pieces it came in, which is how many tokens it was.
    `provenance` and `renderer` are those of the first server. `finished`: the text is whole, only the closing is
    missing. `broken` is the part that broke last, while the client waits for somebody to go on.
    """

    __slots__ = ("broken", "content", "finished", "plain", "provenance", "renderer", "resumed", "said", "tokens")

    def __init__(self, content: Chat | Completion) -> None:
        self.content = content
        self.said: list[str] = []
        self.tokens = 0
        self.plain = True
        self.finished = False
        self.broken: Resumable | None = None
        self.resumed = 0
        self.renderer: Renderer | None = None
        self.provenance: Provenance | None = None

    @classmethod
    def of(cls, call: Call, content: Content) -> "Thread | None":
        """A thread for a call that allows it."""
        able = call.stream and call.operation in (Operation.CHAT, Operation.COMPLETION)
        if able and isinstance(content, Chat | Completion) and is_resumable(content):
            return cls(content)
        return None

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(self.said)

    def outgoing(self, engine: Engine, call: Call, model: Model) -> EngineRequest | None:
        """What asks for the rest; None when the limit of tokens leaves no rest. Raises Unsupported for an engine that
        cannot go on."""
        sampling = reduce_token_limit(self.content.sampling, self.tokens)
        if sampling is None:
            return None
        content = replace(self.content, sampling=sampling)
        said = self.text.rstrip()
        outgoing = (
            engine.build_continuation(call, content, model, said)
            if said
            else engine.translate_request(call, content, model)
        )
        if outgoing is None:
            raise Unsupported(f"{engine.title} cannot go on with an answer that has begun.")
        return outgoing

    def note(self, chunk: Chunk) -> None:
        """The client gets this."""
        if chunk.text:
            self.said.append(chunk.text)
            self.tokens += 1
        if chunk.finish:
            self.finished = True
        if chunk.thinking or chunk.tool_calls or chunk.refusal or chunk.logprobs or chunk.step or chunk.choice:
            self.plain = False


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
    """One server's part of a stream that may outlive it. While the thread can be gone on with, a break leaves the
    client's stream open: whoever awaits this goes on with another server or calls `give_up`."""

    __slots__ = ("_before", "_joint", "_thread")

    def __init__(
        self,
        client: Client,
        call: Call,
        endpoint: Endpoint,
        head: bytes,
        loop: asyncio.AbstractEventLoop,
        reader: ResponseReader,
        provenance: Provenance,
        thread: Thread,
    ) -> None:
        super().__init__(client, call, endpoint, head, loop, reader, provenance)
        self._thread = thread
        self._before = thread.tokens
        self._joint: Joint | None = None
        if client.response_started and thread.renderer is not None and thread.provenance is not None:
            said = thread.text
            self._renderer = thread.renderer
            self._open = True
            self._said = len(said.encode())
            self._joint = Joint(said)
            thread.resumed += 1
            thread.provenance.resumed = thread.resumed
        else:
            thread.renderer, thread.provenance = self._renderer, provenance

    def failed(self, error: PenstockError) -> None:
        client, thread = self.client, self._thread
        if client.response_started and not client.gone and not isinstance(error, ClientStalled):
            if thread.finished:
                self.complete()
                return
            if thread.plain:
                thread.broken = self
                self.settle(error)
                return
        thread.broken = None
        super().failed(error)

    def complete(self, finish: str = "") -> None:
        """End the client's stream well: its text is whole."""
        out = self._renderer.render_chunk(Chunk(finish=finish)) if finish else b""
        self.pieces = self.pieces or 1
        self._thread.broken = None
        self.client.write(out + self._counted() + self._renderer.render_end())
        self.client.finish()
        self.settle(None)

    def give_up(self, error: PenstockError) -> None:
        """Nobody can go on: end the client's stream with the error."""
        self._thread.broken = None
        self.client.upstream = None
        if not self.client.gone:
            self.broken(error)

    def finish(self, chunks: Iterable[Chunk]) -> None:
        super().finish(chunks)
        self._thread.broken = None

    def _take(self, chunks: Iterable[Chunk], last: bool = False) -> None:
        if self._joint is not None:
            chunks = self._joined(chunks, self._joint)
        super()._take(chunks, last)

    def _note(self, chunk: Chunk) -> None:
        if not self.pieces and self._joint is not None and self._renderer.content_type.startswith(b"text/event-stream"):
            self.client.write(b": penstock resumed=%d\n\n" % self._thread.resumed)
        super()._note(chunk)
        self._thread.note(chunk)

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
