"""An engine that takes too long: 504 in the caller's dialect before the first byte, an error event after it."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import msgspec
import pytest

from tests.support.chat_endpoints import CHAT_ENDPOINTS, STREAMING_ENDPOINTS
from tests.support.gateway import run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, post, run_event_loop
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
    send_pieces_then,
)

CHAT = post("/v1/chat/completions", chat())
SHORT = {"first_byte": 0.15, "idle": 0.15}


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_no_response_at_all_is_a_504_in_every_dialect(name: str):
    surface = CHAT_ENDPOINTS[name]
    async with (
        RawEngine(Turn.hang) as engine,
        run_gateway(server_settings("a", engine.url, surface.kind, **SHORT)) as gateway,
    ):
        answer = await gateway.send_request(surface.request)
        message = surface.check_error(answer, 504, "upstream_timeout")
        assert "LLM_TIMEOUT" in message
        assert engine.url in message
        for line in tuple(engine.lines):
            await asyncio.wait_for(line.gone.wait(), 1)


@pytest.mark.parametrize("name", STREAMING_ENDPOINTS)
async def test_a_stream_that_does_not_start_is_a_504(name: str):
    surface = STREAMING_ENDPOINTS[name]
    script = send_pieces_then("hang", chunked_head())
    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("a", engine.url, surface.kind, **SHORT)) as gateway,
    ):
        answer = await gateway.send_request(surface.request)
        assert answer.status == 504
        assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("name", STREAMING_ENDPOINTS)
async def test_a_stream_that_stops_ends_with_an_error(name: str):
    surface = STREAMING_ENDPOINTS[name]
    kind = "application/x-ndjson" if surface.kind == "ollama" else "text/event-stream"
    piece = ollama_lines("one")[0] if surface.kind == "ollama" else event("one")
    script = send_pieces_then("hang", chunked_head(kind) + chunk(piece))
    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("a", engine.url, surface.kind, **SHORT)) as gateway,
    ):
        answer = await gateway.send_request(surface.request)
        assert answer.status == 200
        assert answer.complete
        assert b"one" in answer.body
        assert "sent nothing more in time" in surface.find_error(answer)
        [line] = engine.lines or [None]
        if line is not None:
            await asyncio.wait_for(line.gone.wait(), 1)


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_an_incomplete_response_is_a_504(name: str):
    surface = CHAT_ENDPOINTS[name]
    script = send_pieces_then("hang", response(completion("never"))[:-10])
    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("a", engine.url, surface.kind, **SHORT)) as gateway,
    ):
        assert "sent nothing more" in surface.check_error(
            await gateway.send_request(surface.request), 504, "upstream_timeout"
        )


@pytest.mark.parametrize("name", [name for name in CHAT_ENDPOINTS if name != "ollama generate"])  # that one streams
async def test_a_response_that_drips_is_a_504_after_the_total_timeout(name: str):
    async def drip(turn: Turn) -> None:
        await turn.send(chunked_head("application/json"))
        while not turn.gone.is_set():
            await turn.send(chunk(b" "))
            await asyncio.sleep(0.02)

    surface = CHAT_ENDPOINTS[name]
    async with RawEngine(drip) as engine:
        patient = server_settings("a", engine.url, surface.kind)
        async with run_gateway(replace(patient, timeouts=replace(patient.timeouts, total=0.3))) as gateway:
            answer = await gateway.send_request(surface.request)
            assert engine.url in surface.check_error(answer, 504, "upstream_timeout")
            await wait_until(lambda: not engine.lines)


async def test_a_stream_has_no_total_timeout():
    async def slowly(turn: Turn) -> None:
        await turn.send(chunked_head())
        for word in ["one", "two", "three", "four"]:
            await turn.send(chunk(event(word)))
            await asyncio.sleep(0.1)
        await turn.send(chunk(event(finish="stop") + DONE) + END)

    async with RawEngine(slowly) as engine:
        patient = server_settings("a", engine.url)
        async with run_gateway(replace(patient, timeouts=replace(patient.timeouts, total=0.15))) as gateway:
            answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True)))
            assert answer.text == "onetwothreefour"


async def test_an_agents_stream_that_stops_ends_with_an_error_event():
    script = send_pieces_then("hang", chunked_head() + chunk(b'event: chunk\ndata: {"content": "one"}\n\n'))
    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("a", engine.url, "victoria", **SHORT)) as gateway,
    ):
        answer = await gateway.send_request(post("/api/chat/stream", {"content": "hi"}))
        assert (answer.status, answer.complete) == (200, True)
        start, one, error, end = map(msgspec.json.decode, answer.data)
        assert (start["provider"], one["content"]) == ("victoria", "one")
        assert (error["code"], error["status"], error["retryable"]) == ("upstream_timeout", 504, True)
        assert "sent nothing more in time" in error["message"]
        assert end["status"] == "error"


async def test_an_agents_stream_that_does_not_start_is_a_504_of_events():
    async with (
        RawEngine(Turn.hang) as engine,
        run_gateway(server_settings("a", engine.url, "victoria", **SHORT)) as gateway,
    ):
        answer = await gateway.send_request(post("/api/chat/stream", {"content": "hi"}))
        assert answer.status == 504
        error, end = map(msgspec.json.decode, answer.data)
        assert (error["code"], end["status"]) == ("upstream_timeout", "error")


async def test_a_slow_stream_has_no_time_limit_while_it_makes_progress():
    async def slowly(turn: Turn) -> None:
        await turn.send(chunked_head())
        for word in ["slow", "but", "sure,", "all", "of", "it"]:
            await turn.send(chunk(event(word)))
            await asyncio.sleep(0.1)
        await turn.send(chunk(event(finish="stop") + DONE) + END)

    async with RawEngine(slowly) as engine, run_gateway(server_settings("a", engine.url, **SHORT)) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True)))
        assert answer.text == "slowbutsure,allofit"


async def test_comments_keep_a_stream_alive():
    async def thinking(turn: Turn) -> None:
        await turn.send(chunked_head())
        for _ in range(5):
            await turn.send(chunk(b": still thinking\n\n"))
            await asyncio.sleep(0.1)
        await turn.send(chunk(event("at last") + event(finish="stop") + DONE) + END)

    async with RawEngine(thinking) as engine, run_gateway(server_settings("a", engine.url, **SHORT)) as gateway:
        for path in ("/v1/chat/completions", "/api/chat"):
            answer = await gateway.send_request(post(path, chat(stream=True)))
            assert b"at last" in answer.body
            assert b"error" not in answer.body


async def test_the_first_byte_has_a_limit_of_its_own():
    async def late(turn: Turn) -> None:
        await asyncio.sleep(0.5)
        await turn.send(response(completion("late")))

    limits = {"first_byte": 5.0, "idle": 0.1}
    async with RawEngine(late) as engine, run_gateway(server_settings("a", engine.url, **limits)) as gateway:
        assert (await gateway.send_request(CHAT)).text == "late"


async def test_a_server_that_accepts_no_connection_is_a_504():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it accepts connections, and never sends a byte
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with run_gateway(server_settings("a", url), connect=0.2) as gateway:
            answer = await gateway.send_request(CHAT)
            message = CHAT_ENDPOINTS["openai"].check_error(answer, 504, "upstream_timeout")
            assert "did not accept a connection within 0.2 s" in message


async def test_a_server_whose_queue_of_connections_is_full_is_a_504():
    with socket.socket() as listener, contextlib.ExitStack() as crowd:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # from then on the system drops what knocks
            one = crowd.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        async with run_gateway(
            server_settings("a", f"http://127.0.0.1:{listener.getsockname()[1]}"), connect=0.2
        ) as gateway:
            for surface in (CHAT_ENDPOINTS["openai"], CHAT_ENDPOINTS["service"]):
                message = surface.check_error(await gateway.send_request(surface.request), 504, "upstream_timeout")
                assert "did not accept a connection within 0.2 s" in message


async def test_a_timeout_counts_against_its_server_and_its_connection_is_not_reused():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url, **SHORT)) as gateway:
        await gateway.send_request(CHAT)
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 1
        engine.script = send_pieces(response(completion("well again")))
        assert (await gateway.send_request(CHAT)).text == "well again"
        assert engine.accepted == 2
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0


async def test_bytes_after_a_timeout_reach_no_client():
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await go_on.wait()
        await turn.send(response(completion("too late")))

    async with RawEngine(late) as engine, run_gateway(server_settings("a", engine.url, **SHORT)) as gateway:
        assert (await gateway.send_request(CHAT)).status == 504
        go_on.set()
        await run_event_loop()
        engine.script = send_pieces(response(completion("in time")))
        assert (await gateway.send_request(CHAT)).text == "in time"
