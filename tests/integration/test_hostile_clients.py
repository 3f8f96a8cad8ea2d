"""Clients that send anything: every part of a request has a limit, and takes as much memory as it has bytes."""

import asyncio
import tracemalloc

import msgspec
import pytest

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import BrokenAnswerError, RawClient, chat, post
from tests.support.raw_engine import RawEngine, chunk, completion, response, says

PATHS = ("/v1/chat/completions", "/api/chat", "/api/show", "/api/route")
HEAD = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


async def flood(client: RawClient, piece: bytes, limit: int) -> int:
    """Send a piece again and again until the connection is closed or `limit` bytes are sent; return the bytes."""
    sent = 0
    try:
        while sent < limit:
            await client.send(piece)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    return sent


ENDLESS = {
    "trailers": (b"0\r\n", b"X-T: " + b"1" * 8000 + b"\r\n"),
    "one trailer": (b"0\r\nX-T: ", b"1" * 8000),
    "an extension": (b"3;a=", b"1" * 8000),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("path", PATHS)
async def test_trailers_and_extensions_have_a_limit(path: str, name: str):
    start, piece = ENDLESS[name]
    async with RawEngine(says(response(completion()))) as engine, run_gateway(server_settings("a", engine.url)) as it:
        client = await it.connect_client()
        await client.send(HEAD % path.encode() + chunk(b"{}") + start)
        sent = await flood(client, piece, 5_000_000)
        # After an error the gateway reads on for a moment, so that the client can read the error.
        try:
            answer = await client.answer()
            assert answer.status in (400, 413)
        except (BrokenAnswerError, ConnectionError):
            assert sent < 5_000_000
        assert not engine.requests


@pytest.mark.parametrize("path", PATHS)
async def test_trailers_are_no_headers(path: str):
    async with RawEngine(says(response(completion()))) as engine, run_gateway(server_settings("a", engine.url)) as it:
        client = await it.connect_client()
        body = chunk(msgspec.json.encode(chat()))
        await client.send(HEAD % path.encode() + body + b"0\r\nX-Request-Id: from-a-trailer\r\nHost: evil\r\n\r\n")
        answer = await client.answer()
        assert answer.headers["x-request-id"] != "from-a-trailer"
        assert answer.status != 403


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_body_in_tiny_chunks_takes_as_much_memory_as_it_has_bytes(size: int):
    text = b"x" * (size * 20_000)
    async with RawEngine(says(response(completion()))) as engine, run_gateway(server_settings("a", engine.url)) as it:
        client = await it.connect_client()
        start = b'{"model":"m","messages":[{"role":"user","content":"'
        await client.send(HEAD % b"/v1/chat/completions" + chunk(start))
        tracemalloc.start()
        try:
            await client.send(*(chunk(text[:size]) * 1000 for _ in range(20)))
            await asyncio.sleep(0.05)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        await client.send(chunk(b'"}]}') + b"0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert engine.requests[0].json["messages"][0]["content"].encode() == text
        assert taken < 3 * len(text) + 200_000


@pytest.mark.parametrize("limit", [100, 20_000, 300_000, 2_000_000])
async def test_the_limit_of_a_body_is_kept_on_a_kept_connection(limit: int):
    async with (
        RawEngine(says(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url), max_body=limit) as it,
    ):
        client = await it.connect_client()
        for _ in range(4):
            await client.send(post("/v1/chat/completions", chat()))
            assert (await client.answer()).status == 200
        room = limit - len(msgspec.json.encode(chat("")))
        await client.send(post("/v1/chat/completions", chat("x" * room)))
        assert (await client.answer()).status == 200
        await client.send(post("/v1/chat/completions", chat("x" * (room + 1))))
        assert (await client.answer()).status == 413
        assert len(engine.requests) == 5
