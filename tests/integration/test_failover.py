"""A call is retried on another server until its client has a byte; if none can answer, the error names each."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from penstock.config.settings import LlmSettings
from tests.support.chat_endpoints import CHAT_ENDPOINTS, STREAMING_ENDPOINTS, ChatEndpoint, StreamingEndpoint
from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import RawClient, chat, post
from tests.support.raw_engine import (
    RawEngine,
    Script,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    ollama_lines,
    response,
    send_pieces,
    send_pieces_then,
    stream,
)

CHAT = post("/v1/chat/completions", chat())
GOOD = send_pieces(response(completion("good")))
VLLM_SAYS = {
    "/v1/chat/completions": completion("good"),
    "/v1/completions": b'{"object":"text_completion","choices":[{"index":0,"text":"good","finish_reason":"stop"}]}',
}
OLLAMA_SAYS = {
    "/api/chat": b'{"model":"m","message":{"role":"assistant","content":"good"},"done":true,"done_reason":"stop"}',
    "/api/generate": b'{"model":"m","response":"good","done":true,"done_reason":"stop"}',
}
VICTORIA_SAYS = {"/run": b'{"status":"success","output":"good"}'}


async def answer_in_dialect(turn: Turn) -> None:
    """Answer in the format of the engine that owns the path."""
    body = (VLLM_SAYS | OLLAMA_SAYS | VICTORIA_SAYS).get(turn.request.path)
    if body is None:
        await turn.send(response(b'{"detail":"Not Found"}', status="404 Not Found"))
        return
    streamed = turn.request.json.get("stream")
    if streamed and turn.request.path.startswith("/v1"):
        await turn.send(stream("good"))
    elif streamed:
        await turn.send(
            chunked_head("application/x-ndjson") + b"".join(map(chunk, ollama_lines("good"))) + b"0\r\n\r\n"
        )
    else:
        await turn.send(response(body))


@pytest.fixture
def make_refusing_address() -> Iterator[Callable[[], str]]:
    """Factory of addresses that refuse connections and stay reserved."""
    with contextlib.ExitStack() as held:

        def address() -> str:
            sock = held.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{sock.getsockname()[1]}"

        yield address


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_a_refused_connection_is_retried_on_another_server_in_every_dialect(name: str, make_refusing_address):
    surface: ChatEndpoint = CHAT_ENDPOINTS[name]
    async with RawEngine(answer_in_dialect) as good:
        dead = server_settings("dead", make_refusing_address(), surface.kind)
        async with run_gateway(dead, server_settings("good", good.url, surface.kind, priority="SECONDARY")) as gateway:
            answer = await gateway.send_request(surface.request)
            assert answer.status == 200
            assert b"good" in answer.body
            assert answer.headers["x-penstock-server"] == "good"
            assert answer.headers["x-penstock-fallback"] == "true"


@pytest.mark.parametrize("name", STREAMING_ENDPOINTS)
async def test_a_stream_that_fails_before_its_first_byte_is_retried_on_another_server(name: str):
    surface: StreamingEndpoint = STREAMING_ENDPOINTS[name]
    async with (
        RawEngine(send_pieces_then("reset", chunked_head())) as bad,
        RawEngine(answer_in_dialect) as good,
        run_gateway(
            server_settings("bad", bad.url, surface.kind),
            server_settings("good", good.url, surface.kind, priority="SECONDARY"),
        ) as gateway,
    ):
        answer = await gateway.send_request(surface.request)
        assert b"good" in answer.body
        assert b"error" not in answer.body.replace(b'"error":null', b"")
        assert answer.headers["x-penstock-fallback"] == "true"


BUSY = response(b'{"error":{"message":"busy"}}', status="503 Service Unavailable")
BAD_WAYS: dict[str, Script] = {
    "closes": send_pieces_then("close"),
    "resets": send_pieces_then("reset"),
    "sends garbage": send_pieces(b"garbage\r\n\r\n"),
    "hangs": Turn.hang,
    "hangs after its head": send_pieces_then("hang", response(completion("never"))[:80]),
    "hangs in its body": send_pieces_then("hang", response(completion("never"))[:-10]),
    "answers 429": send_pieces(response(b'{"error":{"message":"slow down"}}', status="429 Too Many Requests")),
    "answers 500": send_pieces(response(b"Internal Server Error", status="500 Internal Server Error")),
    "answers 502": send_pieces(response(b"<html>nginx</html>", status="502 Bad Gateway")),
    "answers 503": send_pieces(BUSY),
    "answers 504": send_pieces(response(b"", status="504 Gateway Timeout")),
    "answers 408": send_pieces(response(b"", status="408 Request Timeout")),
    "answers 401": send_pieces(response(b'{"error":"wrong key"}', status="401 Unauthorized")),
    "answers 404, no such model": send_pieces(
        response(b'{"error":{"message":"no such model"}}', status="404 Not Found")
    ),
    "answers 302": send_pieces(response(b"", status="302 Found", headers=("Location: /login",))),
}


@pytest.mark.parametrize("way", BAD_WAYS)
async def test_any_failure_before_the_first_byte_is_retried_on_another_server(way: str):
    async with (
        RawEngine(BAD_WAYS[way]) as bad,
        RawEngine(answer_in_dialect) as good,
        run_gateway(
            server_settings("bad", bad.url, first_byte=0.2, idle=0.2),
            server_settings("good", good.url, priority="SECONDARY"),
        ) as gateway,
    ):
        for surface in (CHAT_ENDPOINTS["openai"], CHAT_ENDPOINTS["anthropic"]):
            answer = await gateway.send_request(surface.request)
            assert answer.status == 200
            assert b"good" in answer.body
            gateway.gateway.catalog.loads["bad"].last_failed_at = 0.0
        assert len(bad.requests) == len(good.requests) == 2


@pytest.mark.parametrize("status", ["400 Bad Request", "409 Conflict", "413 Too Large", "422 Unprocessable Entity"])
@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama on vllm", "service", "distributed"])
async def test_the_callers_own_error_is_not_retried_on_another_server(name: str, status: str):
    complaint = b'{"error":{"message":"temperature is too high","type":"BadRequestError","param":"temperature"}}'
    async with (
        RawEngine(send_pieces(response(complaint, status=status))) as first,
        RawEngine(answer_in_dialect) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(CHAT_ENDPOINTS[name].request)
        assert "temperature is too high" in CHAT_ENDPOINTS[name].check_error(answer, int(status[:3]), "invalid_request")
        assert not second.requests
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0


@pytest.mark.parametrize("name", STREAMING_ENDPOINTS)
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_stream_that_fails_after_its_first_byte_ends_with_an_error_and_no_retry(name: str, then: str):
    surface: StreamingEndpoint = STREAMING_ENDPOINTS[name]
    openai, ollama = chunk(event("one")), chunk(ollama_lines("one", "two")[0])
    head = chunked_head("application/x-ndjson" if surface.kind == "ollama" else "text/event-stream")
    cut = send_pieces_then(then, head + (ollama if surface.kind == "ollama" else openai))
    async with (
        RawEngine(cut) as bad,
        RawEngine(answer_in_dialect) as good,
        run_gateway(
            server_settings("bad", bad.url, surface.kind),
            server_settings("good", good.url, surface.kind, priority="SECONDARY"),
        ) as gateway,
    ):
        client = await RawClient.connect(gateway.port)
        await client.send(surface.request)
        answer = await client.read_answer()
        assert answer.status == 200
        assert answer.complete
        assert b"one" in answer.body
        assert "middle of its response" in surface.find_error(answer)
        assert not good.requests
        client.close()
        assert gateway.gateway.catalog.loads["bad"].consecutive_failures == 1


async def test_a_large_response_that_fails_after_its_first_byte_cuts_the_connection():
    half = response(completion("x" * 600_000))[:400_000]
    async with (
        RawEngine(send_pieces_then("close", half)) as bad,
        RawEngine(answer_in_dialect) as good,
        run_gateway(
            server_settings("bad", bad.url), server_settings("good", good.url, priority="SECONDARY")
        ) as gateway,
    ):
        answer = await gateway.send_request(CHAT)
        assert not answer.complete
        assert not good.requests


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_when_every_server_refuses_each_is_named(name: str, make_refusing_address):
    surface: ChatEndpoint = CHAT_ENDPOINTS[name]
    urls = [make_refusing_address(), make_refusing_address()]
    async with run_gateway(*(server_settings(f"s{i}", url, surface.kind) for i, url in enumerate(urls))) as gateway:
        answer = await gateway.send_request(surface.request)
        message = surface.check_error(answer, 503, "no_server")
        for i, url in enumerate(urls):
            assert f"s{i}" in message
            assert url in message
        assert "connection refused" in message
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_when_every_server_is_busy_the_shortest_wait_is_reported(name: str):
    surface: ChatEndpoint = CHAT_ENDPOINTS[name]

    def busy(wait: int) -> Script:
        body = b'{"error":"server busy"}'
        return send_pieces(response(body, status="429 Too Many Requests", headers=(f"Retry-After: {wait}",)))

    async with (
        RawEngine(busy(7)) as first,
        RawEngine(busy(3)) as second,
        run_gateway(
            server_settings("a", first.url, surface.kind),
            server_settings("b", second.url, surface.kind, priority="SECONDARY"),
        ) as gateway,
    ):
        answer = await gateway.send_request(surface.request)
        surface.check_error(answer, 429, "rate_limited")
        assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "3000")
        assert len(first.requests) == len(second.requests) == 1


async def test_when_every_server_is_full_the_shortest_wait_is_reported():
    full = response(b'{"error":"full"}', status="503 Full", headers=("Retry-After: 4",))
    rest = response(b'{"error":"slow down"}', status="429 Wait", headers=("Retry-After: 9",))
    async with (
        RawEngine(send_pieces(rest)) as first,
        RawEngine(send_pieces(full)) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(CHAT)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "4"


async def test_of_several_failures_the_most_informative_is_reported(make_refusing_address):
    missing = response(b'{"error":{"message":"no such model"}}', status="404 Not Found")
    async with (
        RawEngine(send_pieces(response(b"boom", status="500 Oops"))) as broken,
        RawEngine(send_pieces(missing)) as other,
    ):
        servers = (
            server_settings("dead", make_refusing_address()),
            server_settings("broken", broken.url, priority="SECONDARY"),
            server_settings("other", other.url, priority="FALLBACK"),
        )
        async with run_gateway(*servers) as gateway:
            answer = await gateway.send_request(CHAT)
            assert answer.status == 500
            assert "boom" in answer.json["error"]["message"]


async def test_a_server_that_failed_is_tried_last_for_a_while():
    async with (
        RawEngine(send_pieces(BUSY)) as first,
        RawEngine(GOOD) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url)) as gateway,
    ):
        for _ in range(4):
            assert (await gateway.send_request(CHAT)).status == 200
        assert len(first.requests) == 1
        first.script = GOOD
        gateway.gateway.catalog.loads["a"].last_failed_at -= 11
        assert (await gateway.send_request(CHAT)).headers["x-penstock-server"] == "a"
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0


async def test_servers_are_tried_by_priority():
    async with RawEngine(send_pieces(BUSY)) as first, RawEngine(send_pieces(BUSY)) as second, RawEngine(GOOD) as third:
        servers = (
            server_settings("fallback", third.url, priority="FALLBACK"),
            server_settings("secondary", second.url, priority="SECONDARY"),
            server_settings("primary", first.url, priority="PRIMARY"),
        )
        async with run_gateway(*servers) as gateway:
            answer = await gateway.send_request(CHAT)
            assert answer.headers["x-penstock-server"] == "fallback"
            assert len(first.requests) == len(second.requests) == len(third.requests) == 1


async def test_a_model_is_not_pulled_twice():
    async with (
        RawEngine(send_pieces_then("close")) as first,
        RawEngine(answer_in_dialect) as second,
        run_gateway(server_settings("a", first.url, "ollama"), server_settings("b", second.url, "ollama")) as gateway,
    ):
        answer = await gateway.send_request(post("/api/pull", {"model": "m", "stream": False}))
        assert answer.status == 502
        assert len(first.requests) + len(second.requests) == 1


async def test_with_vllm_down_the_ollama_pool_answers_with_a_warning(make_refusing_address):
    async with RawEngine(answer_in_dialect) as ollama:
        servers = (server_settings("v", make_refusing_address()), server_settings("o", ollama.url, "ollama"))
        async with run_gateway(*servers, llm=LlmSettings(mode="vllm", model="m")) as gateway:
            answer = await gateway.send_request(post("/chat", {"message": "hi"}))
            assert answer.status == 200
            assert answer.json["response"] == "good"
            assert answer.headers["x-penstock-fallback"] == "true"


async def test_with_the_language_model_off_every_dialect_reports_it():
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("a", engine.url), llm=LlmSettings(mode="none")) as gateway,
    ):
        for name in ("openai", "anthropic", "ollama on vllm", "service", "distributed"):
            answer = await gateway.send_request(CHAT_ENDPOINTS[name].request)
            assert "LLM_MODE" in CHAT_ENDPOINTS[name].check_error(answer, 503, "llm_disabled")
        assert not engine.requests


@pytest.mark.parametrize("name", [name for name in CHAT_ENDPOINTS if name != "agent"])
async def test_an_unknown_model_is_reported_with_similar_names(name: str, make_refusing_address):
    surface: ChatEndpoint = CHAT_ENDPOINTS[name]
    async with run_gateway(
        server_settings("a", make_refusing_address(), surface.kind), models=("llama3.1:8b", "qwen3")
    ) as gateway:
        answer = await gateway.send_request(post(surface.path, surface.body | {"model": "llama3:8b"}))
        assert "llama3.1:8b" in surface.check_error(answer, 404, "model_not_found")
