"""Model servers that send anything: clients get a proper response, in limited time, and nothing grows."""

import asyncio

import msgspec
import pytest

from penstock.config.settings import LlmSettings
from penstock.gateway.upstream.transport import connection
from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import chat, post
from tests.support.raw_engine import (
    DONE,
    END,
    RawEngine,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    ollama_lines,
    response,
    send_pieces,
    stream_events,
)

WIRES = ("/v1/chat/completions", "/api/chat", "/v1/messages")


async def ask(script, path: str, *, stream: bool, first_byte: float = 10.0, idle: float = 10.0):
    settings = {"first_byte": first_byte, "idle": idle}
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url, **settings)) as running:
        request = post(path, chat(stream=stream, max_tokens=5), headers=("x-penstock-max-wait: 2",))
        return await running.send_request(request, 8.0)


@pytest.mark.parametrize("path", WIRES)
@pytest.mark.parametrize("value", ["inf", "1e308", "nan", "-5", "9" * 400, "0x10", "1" * 60_000])
async def test_any_retry_after_gets_an_answer(path: str, value: str):
    refusal = response(b'{"error":{"message":"Busy."}}', status="429 Busy", headers=(f"Retry-After: {value}",))
    answer = await ask(send_pieces(refusal), path, stream=False)
    assert answer.status in (429, 502, 503)
    assert int(answer.headers.get("retry-after", "1")) <= 86_400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WIRES)
async def test_an_error_whose_body_drips_is_an_error_soon(path: str, stream: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "ERROR_BODY_SECONDS", 0.3)

    async def drip(turn: Turn) -> None:
        await turn.send(b"HTTP/1.1 400 No\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not turn.gone.is_set():
            await turn.send(chunk(b"bad "))
            await asyncio.sleep(0.05)

    answer = await ask(drip, path, stream=stream)
    assert answer.status == 400
    assert b"bad bad" in answer.body


@pytest.mark.parametrize("path", WIRES)
async def test_an_endless_error_is_cut(path: str):
    async def flood(turn: Turn) -> None:
        await turn.send(b"HTTP/1.1 400 No\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        while await turn.push(chunk(b"bad " * 4096)):
            pass

    assert (await ask(flood, path, stream=False)).status == 400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WIRES)
async def test_trailers_reach_no_client(path: str, stream: bool):
    body = b"".join(map(chunk, stream_events("hello"))) if stream else chunk(completion("hello"))
    head = chunked_head() if stream else chunked_head("application/json")
    for cut in (0, 5, 20):
        end = b"0\r\nX-Secret: trailer\r\nSet-Cookie: a=b\r\n\r\n"

        async def script(turn: Turn, end: bytes = end, cut: int = cut) -> None:
            await turn.send(head + body + end[:cut], end[cut:])

        answer = await ask(script, path, stream=stream)
        assert answer.status == 200
        assert b"hello" in answer.body
        assert b"trailer" not in answer.body
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("piece", [b"X-T: " + b"1" * 10_000 + b"\r\n", b"1" * 10_000], ids=["lines", "one line"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WIRES)
async def test_endless_trailers_are_cut(path: str, stream: bool, piece: bytes):
    async def script(turn: Turn) -> None:
        await turn.send(chunked_head() + chunk(event("hello")) + b"0\r\nX: ")
        sent = 0
        while await turn.push(piece):
            sent += len(piece)
            assert sent < 50_000_000, "nobody hangs up"
            await asyncio.sleep(0)

    answer = await ask(script, path, stream=stream)
    assert answer.status in (200, 502)
    assert b"error" in answer.body or not answer.complete


async def test_an_endless_list_of_lines_to_an_unstreamed_call_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("penstock.gateway.upstream.relay.translating.MAX_UNSTREAMED_PIECES", 1000)

    async def script(turn: Turn) -> None:
        await turn.send(chunked_head("application/x-ndjson"))
        while await turn.push(chunk(ollama_lines("a")[0] * 200)):
            pass

    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("a", engine.url, "ollama"), llm=LlmSettings(stream=True)) as running,
    ):
        answer = await running.send_request(post("/api/v1/chat", {"message": "hi", "model": "m"}), 8.0)
    assert answer.status == 502
    assert b"too long" in answer.body


@pytest.mark.parametrize("piece", [b": wait\n\n", b"\n", b" "], ids=["comments", "lines", "spaces"])
async def test_signs_of_life_alone_do_not_hold_a_call_for_ever(piece: bytes):
    async def script(turn: Turn) -> None:
        await turn.send(chunked_head() + chunk(event("hello")))
        while not turn.gone.is_set():
            await turn.send(chunk(piece))
            await asyncio.sleep(0.02)

    for path in WIRES:
        async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as running:
            timeouts = running.gateway._timeouts["a"]
            running.gateway._timeouts["a"] = type(timeouts)(0.3, 0.3, 0.5)
            answer = await running.send_request(post(path, chat(stream=True, max_tokens=5)), 8.0)
            assert b"hello" in answer.body
            assert b"error" in answer.body or not answer.complete


async def test_a_stream_that_never_has_content_ends():
    async def script(turn: Turn) -> None:
        await turn.send(chunked_head())
        while not turn.gone.is_set():
            await turn.send(chunk(b'data: {"choices":[{"index":0,"delta":{}}]}\n\n'))
            await asyncio.sleep(0.02)

    for path in ("/api/chat", "/v1/messages"):
        async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as running:
            timeouts = running.gateway._timeouts["a"]
            running.gateway._timeouts["a"] = type(timeouts)(0.3, 0.3, 0.5)
            answer = await running.send_request(post(path, chat(stream=True, max_tokens=5)), 8.0)
            assert answer.status == 504 or b"error" in answer.body


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "image/svg+xml", "TEXT/HTML", ""])
@pytest.mark.parametrize("path", WIRES)
async def test_a_page_is_no_answer(path: str, content_type: str):
    answer = await ask(send_pieces(response(completion("<script>"), content_type=content_type)), path, stream=False)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("status", [600, 777, 999])
@pytest.mark.parametrize("path", WIRES)
async def test_a_status_that_does_not_exist_is_a_failure(path: str, status: int):
    answer = await ask(
        send_pieces(response(b'{"error":{"message":"Odd."}}', status=f"{status} Odd")), path, stream=False
    )
    assert answer.status in (502, 529)


@pytest.mark.parametrize("status", [203, 204, 206, 299])
async def test_an_unusual_success_is_a_plain_one(status: int):
    answer = await ask(send_pieces(response(completion(), status=f"{status} Odd")), WIRES[0], stream=False)
    assert answer.status in (200, 502)


@pytest.mark.parametrize("count", ["-7", "1" + "0" * 400, "1" + "0" * 30, "1e300", "-1" + "0" * 5000])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WIRES)
async def test_token_counts_are_clamped(path: str, stream: bool, count: str):
    usage = b'"usage":{"prompt_tokens":%b,"completion_tokens":%b}' % (count.encode(), count.encode())
    body = completion("hello")
    body = body[: body.index(b'"usage"')] + usage + b"}"
    events = event("hello") + event(finish="stop") + b'data: {"choices":[],' + usage + b"}\n\n" + DONE
    script = send_pieces(chunked_head() + chunk(events) + END) if stream else send_pieces(response(body))
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as running:
        answer = await running.send_request(post(path, chat(stream=stream, max_tokens=5)))
        assert answer.status in (200, 502)
        figures = (await running.send_request(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")).body
        for line in figures.splitlines():
            if b"token" in line and not line.startswith(b"#"):
                assert 0 <= float(line.rpartition(b" ")[2]) <= 3e9, line
        if answer.status == 200 and path == "/v1/messages" and not stream:
            counts = msgspec.json.decode(answer.body)["usage"]
            assert 0 <= counts["output_tokens"] <= 10**9
