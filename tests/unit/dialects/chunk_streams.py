"""Strategies for streams of chunks, parsers of rendered streams, and a server that answers with given bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from penstock.dialects.base import Renderer
from penstock.domain.provenance import Provenance
from penstock.domain.response import Chunk, Logprob, ToolDelta, Usage

BY = Provenance("abc123", created=1_700_000_000.0, model="llama3.1:8b", requested="llama3.1")

no_deadline = settings(deadline=None)  # the official clients build their models at first use

texts = st.text(st.characters(codec="utf-8"), max_size=12)
words = st.text("abcdefghij_", min_size=1, max_size=8)
objects = st.dictionaries(words, st.integers() | texts | st.none(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
counts = st.integers(0, 5000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    prompt = draw(counts)
    return Usage(prompt, draw(counts), draw(st.integers(0, prompt)), draw(counts))


@st.composite
def _fragments(draw: st.DrawFn, index: int) -> list[ToolDelta]:
    arguments = draw(objects)
    cuts = sorted({0, len(arguments), *draw(st.lists(st.integers(0, len(arguments)), max_size=3))})
    pieces = [arguments[start:end] for start, end in pairwise(cuts)]
    first = ToolDelta(index, f"call_{index}", draw(words), "" if draw(st.booleans()) else pieces.pop(0))
    return [first, *(ToolDelta(index, arguments=piece) for piece in pieces)]


def _logprob(token: str) -> Logprob:
    return Logprob(token, -0.5, tuple(token.encode()), (Logprob(token, -0.5, tuple(token.encode())),))


@st.composite
def streams(draw: st.DrawFn, logprobs: bool = False) -> list[Chunk]:
    """Generate text, thinking and interleaved tool calls in any order, then the finish reason and token counts."""
    queues: list[list[Chunk]] = [
        [Chunk(tool_calls=(delta,)) for delta in draw(_fragments(index))] for index in range(draw(st.integers(0, 3)))
    ]
    chosen_texts = draw(st.lists(texts, max_size=6))
    queues.append([Chunk(text=text, logprobs=(_logprob(text),) if logprobs and text else ()) for text in chosen_texts])
    queues.append([Chunk(thinking=text) for text in draw(st.lists(texts, max_size=4))])
    if draw(st.booleans()):
        queues[-1].append(Chunk(thinking_signature=draw(words)))
    if draw(st.booleans()):
        queues.append([Chunk(refusal=draw(words))])
    chunks: list[Chunk] = []
    while queues := [queue for queue in queues if queue]:
        chunks.append(draw(st.sampled_from(queues)).pop(0))
    order: dict[int, int] = {}
    for chunk in chunks:
        for delta in chunk.tool_calls:
            delta.index = order.setdefault(delta.index, len(order))
    called = any(chunk.tool_calls for chunk in chunks)
    finish = draw(st.sampled_from(["tool_calls", "length"] if called else ["stop", "length", "content_filter"]))
    chunks.append(Chunk(finish=finish))
    if draw(st.booleans()):
        chunks[-1].usage = draw(usages())
    else:
        chunks.append(Chunk(usage=draw(usages())))
    return chunks


def render_stream(writer: Renderer, chunks: Iterable[Chunk]) -> bytes:
    """Return the complete stream."""
    return b"".join([*(writer.render_chunk(chunk) for chunk in chunks), writer.render_end()])


def parse_events(stream: bytes) -> list[dict[str, Any]]:
    """The data of every event; fails when the name before it differs, or when anything else is in the stream."""
    parsed: list[dict[str, Any]] = []
    assert stream.endswith(b"\n\n")
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        parsed.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"
    return parsed


@asynccontextmanager
async def serve_bytes(
    status: int, content_type: bytes, body: bytes, got: list[bytes] | None = None
) -> AsyncIterator[str]:
    """A server that answers everything with these bytes; yields its address. `got` receives the requests' bodies."""
    bodies = [] if got is None else got

    async def answer(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        bodies.append(await reader.readexactly(length))
        out.write(b"HTTP/1.1 %d X\r\ncontent-type: %b\r\nconnection: close\r\n\r\n%b" % (status, content_type, body))
        await out.drain()
        out.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
