"""Rejected requests: ambiguous framing, foreign hosts and origins, bodies over the limit."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.chat_endpoints import CHAT_ENDPOINTS
from tests.support.gateway import run_gateway, server_settings, wait_until
from tests.support.raw_client import BrokenAnswerError, chat, get, open_client, post
from tests.support.raw_engine import RawEngine, Turn, completion, response, send_pieces

ANSWER = completion("hello")
GOOD = send_pieces(response(ANSWER))
CHAT = post("/v1/chat/completions", chat())
BODY = CHAT.partition(b"\r\n\r\n")[2]


def request(*lines: str, body: bytes = BODY, path: str = "/v1/chat/completions", first: str = "") -> bytes:
    head = (first or f"POST {path} HTTP/1.1", *lines)
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunks(*sizes: bytes) -> bytes:
    return request("Host: a.local", "Transfer-Encoding: chunked", body=b"".join(sizes))


LENGTH = f"Content-Length: {len(BODY)}"
HEX = b"%x" % len(BODY)
SMUGGLED = {
    "two lengths": request("Host: a.local", LENGTH, "Content-Length: 5"),
    "the same length twice": request("Host: a.local", LENGTH, LENGTH),
    "a list of lengths": request("Host: a.local", f"Content-Length: {len(BODY)}, {len(BODY)}"),
    "a length with a sign": request("Host: a.local", f"Content-Length: +{len(BODY)}"),
    "a negative length": request("Host: a.local", "Content-Length: -1"),
    "a length in hexadecimal": request("Host: a.local", "Content-Length: 0x20"),
    "an empty length": request("Host: a.local", "Content-Length:"),
    "a length beyond all numbers": request("Host: a.local", "Content-Length: 99999999999999999999"),
    "length and chunked": request("Host: a.local", LENGTH, "Transfer-Encoding: chunked"),
    "chunked and length": request("Host: a.local", "Transfer-Encoding: chunked", LENGTH),
    "lines without CR": CHAT.replace(b"\r\n", b"\n"),
    "one line without CR": CHAT.replace(b"\r\nhost", b"\nhost"),
    "a head that ends without CR": CHAT.replace(b"\r\n\r\n", b"\r\n\n"),
    "a CR in a value": request("Host: a.local", "X: a\rb", LENGTH),
    "a space before the colon": request("Host: a.local", f"Content-Length : {len(BODY)}"),
    "a tab before the colon": request("Host: a.local", f"Content-Length\t: {len(BODY)}"),
    "a line that continues in the next": request("Host: a.local", "X: a", " b", LENGTH),
    "a coding in the next line": request("Host: a.local", "Transfer-Encoding:", " chunked"),
    "a space before the first name": request(" Host: a.local", LENGTH),
    "a name without a letter": request("Host: a.local", ": x", LENGTH),
    "a name in brackets": request("Host: a.local", "X(y): z", LENGTH),
    "gzip and chunked": request("Host: a.local", "Transfer-Encoding: gzip, chunked", body=HEX + b"\r\n" + BODY),
    "chunked and gzip": request("Host: a.local", "Transfer-Encoding: chunked, gzip"),
    "gzip, then chunked": request("Host: a.local", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
    "chunked twice": request("Host: a.local", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked twice in a line": request("Host: a.local", "Transfer-Encoding: chunked, chunked"),
    "identity": request("Host: a.local", "Transfer-Encoding: identity", LENGTH),
    "a coding with a vertical tab": request("Host: a.local", "Transfer-Encoding: \x0bchunked"),
    "an unknown coding": request("Host: a.local", "Transfer-Encoding: xchunked"),
    "chunked in HTTP/1.0": request(
        "Host: a.local", "Transfer-Encoding: chunked", first="POST /v1/chat/completions HTTP/1.0"
    ),
    "a chunk size that is no number": chunks(b"zz\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunks(b"0x" + HEX + b"\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk size with a sign": chunks(b"+" + HEX + b"\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a negative chunk size": chunks(b"-5\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk size with a space": chunks(HEX + b" \r\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk size beyond all numbers": chunks(b"f" * 17 + b"\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk size without CR": chunks(HEX + b"\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk extension without CR": chunks(HEX + b";a=b\n", BODY, b"\r\n0\r\n\r\n"),
    "a chunk longer than its size": chunks(b"5\r\n", BODY, b"\r\n0\r\n\r\n"),
    "an empty chunk size": chunks(b"\r\n", BODY, b"\r\n0\r\n\r\n"),
    "a length in the trailers": chunks(HEX + b"\r\n", BODY, b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "two hosts": request("Host: a.local", "Host: b.local", LENGTH),
    "the same host twice": request("Host: a.local", "Host: a.local", LENGTH),
    "no host": request(LENGTH),
    "a zero byte in a value": request("Host: a.local", "X: a\0b", LENGTH),
    "a zero byte in a name": request("Host: a.local", "X\0: a", LENGTH),
    "a zero byte in the path": request("Host: a.local", LENGTH, first="POST /v1/chat\0 HTTP/1.1"),
    "a space in the path": request("Host: a.local", LENGTH, first="POST /v1/chat /completions HTTP/1.1"),
    "HTTP/1.9": request("Host: a.local", LENGTH, first="POST /v1/chat/completions HTTP/1.9"),
    "HTTP/2.0": request("Host: a.local", LENGTH, first="POST /v1/chat/completions HTTP/2.0"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "an unknown method": request("Host: a.local", LENGTH, first="PWN /v1/chat/completions HTTP/1.1"),
    "a head over 64 KiB": request("Host: a.local", f"X: {'y' * 70_000}", LENGTH),
    "a head of many lines over 64 KiB": request("Host: a.local", *[f"X{i}: {'y' * 50}" for i in range(1500)], LENGTH),
    "a path over 64 KiB": request("Host: a.local", LENGTH, path="/v1/chat/completions?" + "y" * 70_000),
}


@pytest.mark.parametrize("how", SMUGGLED)
@pytest.mark.parametrize("pieces", ["at once", "in pieces"])
async def test_ambiguous_framing_is_rejected_and_the_connection_closed(how: str, pieces: str):
    data = SMUGGLED[how] + CHAT
    parts = [data] if pieces == "at once" else [data[at : at + 4000] for at in range(0, len(data), 4000)]
    if pieces == "in pieces" and len(data) < 4000:
        parts = [data[:20], data[20:70], data[70:]]
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        async with open_client(gateway.port) as client:
            with contextlib.suppress(ConnectionError):  # it may be closed before all is sent
                await client.send(*parts)
            answer = await client.read_answer()
            assert answer.status == 400
            assert answer.headers["connection"] == "close"
            body = answer.json
            code = body["error"]["code"] if "error" in body else body["code"]
            assert code == "invalid_request"
            assert await client.is_closed_by_peer(), "something else was answered too"
        assert not engine.requests


@pytest.mark.parametrize("how", ["two lengths", "chunked twice", "no host", "a space before the colon", "two hosts"])
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/api/show"])
async def test_ambiguous_framing_is_rejected_for_asgi_routes(how: str, path: str):
    async with run_gateway() as gateway, open_client(gateway.port) as client:
        await client.send(SMUGGLED[how].replace(b"/v1/chat/completions", path.encode()) + get("/livez"))
        assert (await client.read_answer()).status == 400
        assert await client.is_closed_by_peer()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=300))
async def test_random_bytes_affect_only_their_own_connection(noise: bytes):
    async with run_gateway() as gateway:
        async with open_client(gateway.port) as client:
            await client.send(noise)
            client.half_close()
            try:
                assert (await client.read_answer()).status in (400, 404, 405)
            except BrokenAnswerError:
                assert not client.received
        assert (await gateway.send_request(get("/livez"))).status == 200


async def test_a_head_of_almost_64_kib_is_accepted():
    long = post("/v1/chat/completions", chat(), headers=(f"x-long: {'y' * 60_000}",))
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        assert (await gateway.send_request(long)).body == ANSWER
        client = await gateway.connect_client()
        await client.send(*(long[at : at + 10_000] for at in range(0, len(long), 10_000)))
        assert (await client.read_answer()).body == ANSWER


async def test_an_endless_head_is_rejected():
    async with run_gateway() as gateway, open_client(gateway.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a.local\r\nX: ")
        sent = 0
        while not client.received and sent < 10_000_000:
            try:
                await client.send(b"y" * 16_000)
                sent += 16_000
                await client.receive(0.002)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert (await client.read_answer()).status == 400
        assert sent < 300_000


# Bodies too large


@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama", "service", "distributed", "agent"])
async def test_a_body_over_the_limit_is_rejected_by_its_content_length(name: str):
    surface = CHAT_ENDPOINTS[name]
    async with run_gateway(max_body=2_000_000) as gateway, open_client(gateway.port) as client:
        await client.send(post(surface.path, b"", length=False, headers=("content-length: 2000001",)))
        answer = await client.read_answer()
        assert "server.max_body" in surface.check_error(answer, 413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert await client.is_closed_by_peer()


@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama", "service"])
async def test_a_chunked_body_is_rejected_as_soon_as_it_exceeds_the_limit(name: str):
    surface = CHAT_ENDPOINTS[name]
    async with run_gateway(max_body=100_000) as gateway, open_client(gateway.port) as client:
        await client.send(post(surface.path, b"", length=False, headers=("transfer-encoding: chunked",)))
        for _ in range(4):
            await client.send(b"7530\r\n" + b" " * 30_000 + b"\r\n")
        surface.check_error(await client.read_answer(), 413, "body_too_large")
        assert await client.is_closed_by_peer()


async def test_a_body_of_exactly_the_limit_is_accepted():
    padded = CHAT.partition(b"\r\n\r\n")[2].ljust(150_000)
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url), max_body=150_000) as gateway:
        assert (await gateway.send_request(post("/v1/chat/completions", padded))).body == ANSWER
        assert engine.requests[0].body == padded


async def test_a_rejected_client_that_is_still_sending_can_read_the_response():
    async with run_gateway(max_body=100_000) as gateway, open_client(gateway.port) as client:
        await client.send(post("/v1/chat/completions", b"", length=False, headers=("content-length: 3000000",)))
        for _ in range(30):
            await client.send(b" " * 100_000)
        assert (await client.read_answer()).status == 413


async def test_a_compressed_body_is_rejected():
    async with run_gateway() as gateway:
        answer = await gateway.send_request(
            post("/v1/chat/completions", b"\x1f\x8b", headers=("content-encoding: gzip",))
        )
        assert "compressed" in CHAT_ENDPOINTS["openai"].check_error(answer, 400, "invalid_request")


# Hosts and origins


FOREIGN = [
    "evil.example",
    "evil.example:8005",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost:evil.example",
]
FAMILIAR = [
    "127.0.0.1",
    "127.0.0.1:8005",
    "localhost",
    "LOCALHOST:1",
    "[::1]:80",
    "192.168.1.9",
    "box.local",
    "x.localhost",
]


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_foreign_host_is_rejected(host: str):
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        for name in ("openai", "ollama on vllm"):
            surface = CHAT_ENDPOINTS[name]
            answer = await gateway.send_request(post(surface.path, surface.body, host=host))
            assert "server.allowed_hosts" in surface.check_error(answer, 403, "forbidden")
        assert (await gateway.send_request(get("/health", host=host))).status == 403
        assert not engine.requests


@pytest.mark.parametrize("host", FAMILIAR)
async def test_addresses_and_local_names_are_served(host: str):
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        assert (await gateway.send_request(post("/v1/chat/completions", chat(), host=host))).body == ANSWER


async def test_a_listed_host_is_served():
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("a", engine.url), hosts=("llm.example",)) as gateway,
    ):
        assert (await gateway.send_request(post("/v1/chat/completions", chat(), host="llm.example:80"))).body == ANSWER


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "moz-extension://x"]
)
async def test_a_page_of_a_foreign_origin_is_rejected(origin: str):
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(), headers=(f"origin: {origin}",)))
        assert "server.cors_origins" in CHAT_ENDPOINTS["openai"].check_error(answer, 403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
        assert not engine.requests


@pytest.mark.parametrize(
    ("origin", "listed"),
    [
        ("http://localhost:3000", ()),
        ("http://127.0.0.1:5173", ()),
        ("http://[::1]:80", ()),
        ("http://127.0.0.1", ()),
        ("https://app.example", ("https://app.example",)),
        ("https://anything.example", ("*",)),
    ],
)
async def test_a_page_of_an_allowed_origin_gets_cors_headers(origin: str, listed: tuple[str, ...]):
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url), origins=listed) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(), headers=(f"origin: {origin}",)))
        assert answer.body == ANSWER
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers
        missing = await gateway.send_request(
            post("/v1/chat/completions", chat(model="x"), headers=(f"origin: {origin}",))
        )
        assert missing.status == 404
        assert missing.headers["access-control-allow-origin"] == origin


async def test_a_preflight_request_is_answered():
    async with run_gateway() as gateway:
        asked = ("origin: http://localhost:3000", "access-control-request-method: POST")
        asked += ("access-control-request-headers: authorization,content-type",)
        answer = await gateway.send_request(get("/v1/chat/completions", headers=asked, method="OPTIONS"))
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        evil = await gateway.send_request(
            get("/v1/chat/completions", headers=("origin: https://evil.example", *asked[1:]), method="OPTIONS")
        )
        assert evil.status == 403


async def test_bytes_after_a_rejection_are_ignored():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        async with open_client(gateway.port) as client:
            await client.send(post("/v1/chat/completions", chat(), host="evil.example") + CHAT)
            assert (await client.read_answer()).status == 403
            await client.send(CHAT)
            assert await client.is_closed_by_peer()
        await wait_until(lambda: not gateway.connections)
        assert not engine.requests
