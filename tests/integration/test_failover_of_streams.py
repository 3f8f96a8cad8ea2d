"""A passed-through stream is looked at before it is sent: until it has content, another server can still answer."""

from typing import Any

import msgspec
import pytest

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import (
    END,
    RawEngine,
    Script,
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

SSE, NDJSON = chunked_head(), chunked_head("application/x-ndjson")
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
ERROR = b'data: {"error":{"message":"CUDA out of memory","type":"server_error","code":500}}\n\n'
GOOD = {
    "vllm": send_pieces(stream("good")),
    "ollama": send_pieces(NDJSON + b"".join(map(chunk, ollama_lines("good"))) + END),
}
PATHS = {"vllm": "/v1/chat/completions", "ollama": "/api/chat"}


def text_of(kind: str, answer: Answer) -> str:
    if kind == "vllm":
        return answer.text
    return "".join(line["message"]["content"] for line in answer.lines)


BEFORE_CONTENT: dict[str, tuple[str, Script]] = {
    "an error as the first event": ("vllm", send_pieces(SSE + chunk(ERROR) + END)),
    "an error after the role": ("vllm", send_pieces(SSE, chunk(ROLE), chunk(ERROR), END)),
    "an error named by the event": ("vllm", send_pieces(SSE + chunk(b'event: error\ndata: {"message":"x"}\n\n') + END)),
    "pings and the end": ("vllm", send_pieces(SSE, chunk(b": ping\n\n"), chunk(b": ping\n\n"), END)),
    "pings and a closed connection": ("vllm", send_pieces_then("close", SSE, chunk(b": ping\n\n"))),
    "pings and a reset": ("vllm", send_pieces_then("reset", SSE, chunk(b": ping\n\n"), chunk(ROLE))),
    "pings and silence": ("vllm", send_pieces_then("hang", SSE, chunk(b": ping\n\n"))),
    "the role and the end": ("vllm", send_pieces(SSE, chunk(ROLE), END)),
    "nothing but the end marker": ("vllm", send_pieces(SSE + chunk(b"data: [DONE]\n\n") + END)),
    "an error as a body": ("vllm", send_pieces(SSE + chunk(b'{"error":{"message":"boom"}}') + END)),
    "a web page": ("vllm", send_pieces(SSE + chunk(b"<html>502 Bad Gateway</html>") + END)),
    "an error as the first line": ("ollama", send_pieces(NDJSON + chunk(b'{"error":"runner has terminated"}\n') + END)),
    "no line": ("ollama", send_pieces(NDJSON + END)),
    "an empty line and the end": (
        "ollama",
        send_pieces(NDJSON + chunk(b'{"model":"m","message":{"role":"assistant","content":""},"done":false}\n') + END),
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", BEFORE_CONTENT)
async def test_a_stream_that_fails_before_its_content_is_answered_by_another_server(name: str, version: str):
    kind, script = BEFORE_CONTENT[name]
    async with RawEngine(script) as bad, RawEngine(GOOD[kind]) as good:
        servers = (
            server_settings("a", bad.url, kind, idle=0.3),
            server_settings("b", good.url, kind, priority="SECONDARY"),
        )
        async with run_gateway(*servers) as gateway:
            answer = await gateway.send_request(post(PATHS[kind], chat(stream=True), version=version))
            assert len(bad.requests) == 1
            assert gateway.gateway.catalog.loads["a"].consecutive_failures == 1
    assert (answer.status, text_of(kind, answer)) == (200, "good"), answer


@pytest.mark.parametrize("name", BEFORE_CONTENT)
async def test_without_another_server_it_is_an_error_with_a_status(name: str):
    kind, script = BEFORE_CONTENT[name]
    async with RawEngine(script) as bad, run_gateway(server_settings("a", bad.url, kind, idle=0.3)) as gateway:
        answer = await gateway.send_request(post(PATHS[kind], chat(stream=True)))
    assert answer.status >= 500, answer
    assert "error" in answer.json


async def test_an_error_that_the_caller_must_mend_has_its_status():
    message = "request (30 tokens) exceeds the available context size (20 tokens)"
    error = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}
    script = send_pieces(SSE + chunk(b"data: " + msgspec.json.encode(error) + b"\n\n") + END)
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True)))
    assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "pieces",
    [
        (SSE + chunk(event("a")) + END,),
        (SSE, chunk(event("a")), END),
        (SSE, chunk(event("a")), chunk(event("b")) + END),
        (SSE, chunk(event("a")), b"0\r\nX-Took: 5\r\n\r\n"),
    ],
)
async def test_a_stream_without_its_end_is_an_error_and_counted(pieces: tuple[bytes, ...], version: str):
    async with RawEngine(send_pieces(*pieces)) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True), version=version))
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 1
        await gateway.wait_until_idle()
    assert answer.status == 200
    assert answer.data[0] == event("a")[6:].strip()
    last: Any = msgspec.json.decode(answer.data[-1])
    assert last["error"]["code"] == "upstream_error"


async def test_ollama_may_stop_a_model_that_repeats_itself():
    script = send_pieces(NDJSON + b"".join(map(chunk, ollama_lines("a", "a")[:-1])) + END)
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url, "ollama")) as gateway:
        answer = await gateway.send_request(post("/api/chat", chat(stream=True)))
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0
    assert text_of("ollama", answer) == "aa"


@pytest.mark.parametrize("kind", ["vllm", "ollama"])
async def test_an_unstreamed_error_with_status_200_is_an_error(kind: str):
    good = completion("good") if kind == "vllm" else ollama_lines("good")[0].replace(b"false", b"true")
    async with (
        RawEngine(send_pieces(response(b'{"error":"boom"}'))) as bad,
        RawEngine(send_pieces(response(good))) as other,
    ):
        servers = (server_settings("a", bad.url, kind), server_settings("b", other.url, kind, priority="SECONDARY"))
        async with run_gateway(*servers) as gateway:
            answer = await gateway.send_request(post(PATHS[kind], chat()))
    assert (answer.status, answer.body) == (200, good)


async def test_pings_before_the_content_reach_the_client_with_it():
    pieces = [b": ping\n\n", ROLE, event("a"), event(finish="stop")]
    script = send_pieces(SSE, *map(chunk, pieces), END)
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True)))
    assert answer.body == b"".join(pieces)
