"""Memory of calls: it is free when the call ends, however it ends, without the garbage collector."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.gateway.request_context import RequestContext
from penstock.serving.exchange import Exchange
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.gateway_process import render_settings, run_gateway_process
from tests.support.raw_client import RawClient, chat, post
from tests.support.raw_engine import (
    RawEngine,
    chunk,
    chunked_head,
    response,
    send_pieces,
    send_pieces_then,
    stream_events,
)

SIZE = 200_000
REFUSAL = response(b'{"error":{"message":"No.","type":"invalid_request_error"}}', status="400 Bad Request")
CUT_STREAM = chunked_head() + chunk(stream_events("a")[0])


@pytest.fixture
def no_collector() -> Iterator[int]:
    """Turn the collector off; the value is what was in memory before."""
    gc.collect()
    gc.disable()
    yield count_leftovers()
    gc.enable()


def count_leftovers() -> int:
    """Calls, exchanges and bodies of requests that are still in memory."""
    return sum(
        isinstance(one, RequestContext | Exchange) or (type(one) is list and any(_is_body(each) for each in one[:4]))
        for one in gc.get_objects()
    )


def _is_body(value: object) -> bool:
    return type(value) is bytes and len(value) > 10_000 and b"xxxxxxxx" in value[-100:]


def big_chat(path: str = "/v1/chat/completions", **more: object) -> bytes:
    return post(path, chat("x" * SIZE, **more))


REFUSED = {
    "an unknown model": (big_chat(model="unknown"), send_pieces(REFUSAL), 404),
    "not JSON": (post("/v1/chat/completions", b"{" + b"x" * SIZE), send_pieces(REFUSAL), 400),
    "a wrong type": (big_chat(stream="yes"), send_pieces(REFUSAL), 400),
    "refused by the server": (big_chat(), send_pieces(REFUSAL), 400),
    "refused by the server, translated": (big_chat("/api/chat"), send_pieces(REFUSAL), 400),
    "the server cuts": (big_chat(), send_pieces_then("close", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), 502),
    "the server resets": (big_chat(), send_pieces_then("reset", b""), 502),
    "the server is not HTTP": (big_chat(), send_pieces(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), 502),
    "a cut stream": (big_chat(stream=True), send_pieces_then("close", CUT_STREAM), 200),
    "a cut stream, translated": (big_chat("/api/chat", stream=True), send_pieces_then("close", CUT_STREAM), 200),
    "a cut stream to be continued": (big_chat(stream=True, resume=True), send_pieces_then("close", CUT_STREAM), 200),
    "too large": (big_chat(more="x" * SIZE), send_pieces(REFUSAL), 413),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_failed_calls_leave_nothing_behind(name: str, no_collector: int) -> None:
    request, script, status = REFUSED[name]
    async with (
        RawEngine(script) as engine,
        run_gateway(server_settings("v", engine.url), max_body=SIZE + 1000) as running,
    ):
        for _ in range(3):
            assert (await running.send_request(request)).status == status
        del request
        await check_nothing_left(running, no_collector)


async def test_a_server_that_cannot_be_reached_leaves_nothing_behind(no_collector: int) -> None:
    async with RawEngine(send_pieces(REFUSAL)) as engine:
        url = engine.url
    async with run_gateway(server_settings("v", url)) as running:
        for path in ("/v1/chat/completions", "/api/chat"):
            assert (await running.send_request(big_chat(path))).status == 503
        await check_nothing_left(running, no_collector)


@pytest.mark.parametrize("sent", [0.3, 1.0])
async def test_clients_that_hang_up_leave_nothing_behind(sent: float, no_collector: int) -> None:
    async with (
        RawEngine(send_pieces_then("hang")) as engine,
        run_gateway(server_settings("v", engine.url)) as running,
    ):
        for path in ("/v1/chat/completions", "/api/chat"):
            client = await RawClient.connect(running.port)
            request, asked = big_chat(path), len(engine.requests)
            await client.send(request[: int(len(request) * sent)])
            if sent == 1.0:
                await wait_until(lambda asked=asked: len(engine.requests) > asked)
            client.close()
        await check_nothing_left(running, no_collector)


async def check_nothing_left(running: RunningGateway, before: int) -> None:
    await running.wait_until_idle()
    await wait_until(lambda: not running.connections)
    await asyncio.sleep(0.02)
    assert count_leftovers() <= before


def resident_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/statm").read_text("ascii")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_the_process_returns_the_memory_of_refused_requests_and_hang_ups(tmp_path: Path) -> None:
    async with RawEngine(send_pieces_then("hang")) as engine:
        running = run_gateway_process(tmp_path / "gateway", render_settings("vllm", engine.url))
        started = await asyncio.to_thread(running.__enter__)
        try:
            port = int(started.url.rsplit(":", 1)[1])
            body = b'{"model":"unknown","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 5_000_000)
            await refuse_and_hang_up(port, body, refused=3, hang_ups=1)
            before = resident_megabytes(started.process.pid)
            await refuse_and_hang_up(port, body, refused=60, hang_ups=20)
            await wait_until(lambda: resident_megabytes(started.process.pid) < before + 15, within=10)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


async def refuse_and_hang_up(port: int, body: bytes, *, refused: int, hang_ups: int) -> None:
    request = post("/v1/chat/completions", body)
    for number in range(refused + hang_ups):
        client = await RawClient.connect(port)
        await client.send(request if number < refused else request[: len(request) // 2])
        if number < refused:
            await client.read_answer(20)
        client.close()
