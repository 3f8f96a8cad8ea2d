"""Clients that send anything: every part of a request has a limit, and takes as much memory as it has bytes."""

import asyncio
import tracemalloc

import msgspec
import pytest

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import BrokenAnswerError, RawClient, chat, post
from tests.support.raw_engine import RawEngine, chunk, completion, response, send_pieces

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
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url)) as it,
    ):
        client = await it.connect_client()
        await client.send(HEAD % path.encode() + chunk(b"{}") + start)
        sent = await flood(client, piece, 5_000_000)
        # After an error the gateway reads on for a moment, so that the client can read the error.
        try:
            answer = await client.read_answer()
            assert answer.status in (400, 413)
        except (BrokenAnswerError, ConnectionError):
            assert sent < 5_000_000
        assert not engine.requests


@pytest.mark.parametrize("path", PATHS)
async def test_trailers_are_no_headers(path: str):
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url)) as it,
    ):
        client = await it.connect_client()
        body = chunk(msgspec.json.encode(chat()))
        await client.send(HEAD % path.encode() + body + b"0\r\nX-Request-Id: from-a-trailer\r\nHost: evil\r\n\r\n")
        answer = await client.read_answer()
        assert answer.headers["x-request-id"] != "from-a-trailer"
        assert answer.status != 403


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_body_in_tiny_chunks_takes_as_much_memory_as_it_has_bytes(size: int):
    text = b"x" * (size * 20_000)
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url)) as it,
    ):
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
        assert (await client.read_answer()).status == 200
        assert engine.requests[0].json["messages"][0]["content"].encode() == text
        assert taken < 3 * len(text) + 200_000


@pytest.mark.parametrize("limit", [100, 20_000, 300_000, 2_000_000])
async def test_the_limit_of_a_body_is_kept_on_a_kept_connection(limit: int):
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url), max_body=limit) as it,
    ):
        client = await it.connect_client()
        for _ in range(4):
            await client.send(post("/v1/chat/completions", chat()))
            assert (await client.read_answer()).status == 200
        room = limit - len(msgspec.json.encode(chat("")))
        await client.send(post("/v1/chat/completions", chat("x" * room)))
        assert (await client.read_answer()).status == 200
        await client.send(post("/v1/chat/completions", chat("x" * (room + 1))))
        assert (await client.read_answer()).status == 413
        assert len(engine.requests) == 5


UNREADABLE = {
    "not UTF-8": b'"\xff\xc3"',
    "too large a number": b"1e999",
    "a number of 5,000 digits": b"9" * 5000,
    "900 lists": b"[" * 900 + b"]" * 900,
    "900 objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "half a character": b'"\\ud800"',
    "numbers within lists": b'[[1e999],{"a":-1e999}]',
}
FIELDS = {
    "/v1/chat/completions": ("tools", "stop", "max_tokens", "user", "metadata", "seed", "response_format"),
    "/api/chat": ("tools", "options", "keep_alive", "format", "think", "template", "logprobs"),
    "/api/generate": ("prompt", "options", "keep_alive", "format", "context", "suffix", "images"),
    "/api/embed": ("input", "options", "keep_alive", "dimensions"),
    "/api/embeddings": ("prompt", "keep_alive"),
    "/v1/messages": ("system", "tools", "metadata", "thinking", "stop_sequences", "top_k"),
    "/v1/responses": ("input", "tools", "text", "reasoning", "metadata"),
    "/api/show": ("model", "verbose", "options"),
    "/api/route": ("message", "context", "history"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("path", FIELDS)
async def test_no_value_of_a_field_makes_the_gateway_fail(path: str, name: str):
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url)) as it,
    ):
        base = msgspec.json.encode(chat(max_tokens=5) | {"options": {"stop": ["a"]}, "prompt": "p"})
        fields = FIELDS[path]
        bodies = [b'{"%b":%b,' % (field.encode(), UNREADABLE[name]) + base[1:] for field in fields]
        bodies += [
            b'{"options":{"%b":%b},"model":"m"}' % (key, UNREADABLE[name]) for key in (b"stop", b"num_ctx", b"x")
        ]
        for body in bodies:
            answer = await it.send_request(post(path, body))
            assert b"internal" not in answer.body, body[:200]
            assert answer.status != 500, body[:200]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages"])
async def test_an_endless_name_of_a_model_is_refused(path: str):
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url)) as it,
    ):
        answer = await it.send_request(post(path, chat(model="x" * 100_000, max_tokens=5)))
        assert answer.status == 400
        assert len(answer.body) < 1000


async def test_an_unknown_server_is_not_found():
    async with (
        RawEngine(send_pieces(response(completion()))) as engine,
        run_gateway(server_settings("a", engine.url, "ollama")) as it,
    ):
        answer = await it.send_request(post("/api/pull", {"model": "m", "server": "nowhere"}))
        assert answer.status == 404
        assert b"nowhere" in answer.body
