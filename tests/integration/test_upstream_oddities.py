"""Oddities of real servers' responses: clients of every dialect get what was meant, and no server is blamed."""

from typing import Any

import msgspec
import pytest

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import DONE, END, RawEngine, chunk, chunked_head, response, send_pieces

TWO_CALLS = [("a", "weather", '{"city":"Kyiv"}'), ("b", "time", '{"zone":"UTC"}')]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for _, name, _ in TWO_CALLS]
CLIENT_TOOLS = {
    "/v1/messages": [{"name": name, "input_schema": {"type": "object"}} for _, name, _ in TWO_CALLS],
    "/api/chat": TOOLS,
    "/v1/responses": [{"type": "function", "name": name, "parameters": {"type": "object"}} for _, name, _ in TWO_CALLS],
}


def stream_of(*events: Any) -> bytes:
    """A whole stream of these events, each in a chunk of its own."""
    pieces = [data if isinstance(data, bytes) else b"data: " + msgspec.json.encode(data) + b"\n\n" for data in events]
    return chunked_head() + b"".join(map(chunk, (*pieces, DONE))) + END


def delta(fields: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def ask(path: str, *, stream: bool) -> bytes:
    if path == "/v1/responses":
        return post(path, {"model": "m", "input": "hi", "stream": stream, "tools": CLIENT_TOOLS[path]})
    return post(path, chat(stream=stream, max_tokens=99, tools=CLIENT_TOOLS[path]))


def read_calls(path: str, answer: Answer) -> list[tuple[str, Any]]:
    """The tool calls in an answer of this dialect, streamed or not."""
    if path == "/api/chat":
        lines = answer.lines
        calls = [call for line in lines for call in line["message"].get("tool_calls") or ()]
        assert not any(line["message"]["content"] for line in lines)
        return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    if path == "/v1/responses":
        streamed = "event-stream" in answer.headers["content-type"]
        response_object = msgspec.json.decode(answer.data[-1])["response"] if streamed else answer.json
        items = [item for item in response_object["output"] if item["type"] == "function_call"]
        return [(item["name"], msgspec.json.decode(item["arguments"])) for item in items]
    if "event-stream" not in answer.headers["content-type"]:
        return [(block["name"], block["input"]) for block in answer.json["content"] if block["type"] == "tool_use"]
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for data in map(msgspec.json.decode, answer.data):
        if data["type"] == "content_block_start" and data["content_block"]["type"] == "tool_use":
            names[data["index"]] = data["content_block"]["name"]
        elif data["type"] == "content_block_delta":
            arguments[data["index"]] = arguments.get(data["index"], "") + data["delta"]["partial_json"]
    return [(name, msgspec.json.decode(arguments[index])) for index, name in names.items()]


def fragments(index: int | None, finish: str | None = None) -> list[dict[str, Any]]:
    """The events of two calls, each in two fragments."""
    number = {} if index is None else {"index": index}
    events = []
    for identity, name, arguments in TWO_CALLS:
        first = {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments[:5]}}
        events.append(delta({"tool_calls": [number | first]}, finish))
        events.append(delta({"tool_calls": [number | {"function": {"arguments": arguments[5:]}}]}, finish))
    return [*events, delta({}, "tool_calls")]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("path", CLIENT_TOOLS)
@pytest.mark.parametrize(
    "events",
    [fragments(None), fragments(0), fragments(0, finish="")],
    ids=["no index", "index 0", "empty finish reasons"],
)
async def test_parallel_tool_calls_reach_clients_of_other_dialects_apart(
    events: list[dict[str, Any]], path: str, streamed: bool
):
    async with (
        RawEngine(send_pieces(stream_of(*events))) as engine,
        run_gateway(server_settings("a", engine.url, "llamacpp")) as gateway,
    ):
        answer = await gateway.send_request(ask(path, stream=streamed))
    assert answer.status == 200, answer
    expected = [(name, msgspec.json.decode(arguments)) for _, name, arguments in TWO_CALLS]
    assert read_calls(path, answer) == expected


@pytest.mark.parametrize("path", CLIENT_TOOLS)
async def test_a_cut_stream_with_empty_finish_reasons_is_not_reported_as_complete(path: str):
    events = fragments(0, finish="")[:2]
    data = chunked_head() + b"".join(chunk(b"data: " + msgspec.json.encode(each) + b"\n\n") for each in events) + END
    async with RawEngine(send_pieces(data)) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(ask(path, stream=True))
    assert b"error" in b"".join(answer.body.splitlines()[-3:]), answer


ODD = {
    "half a surrogate pair": (b'data: {"choices":[{"index":0,"delta":{"content":"h\\ud83d x"}}]}\n\n', "h\ufffd x"),
    "bytes of a character apart": (
        (
            b'data: {"choices":[{"index":0,"delta":{"content":"\xf0\x9f"}}]}\n\n'
            b'data: {"choices":[{"index":0,"delta":{"content":"\x98\x80"}}]}\n\n'
        ),
        "\ufffd\ufffd\ufffd",
    ),
    "index null": (b'data: {"choices":[{"index":null,"delta":{"content":"x"}}]}\n\n', "x"),
    "an unknown field": (b'x-trace: 7\nflavour\ndata: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n', "x"),
    "a byte order mark": (b'\xef\xbb\xbfdata: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n', "x"),
    "odd usage": (b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":"none"}\n\n', "x"),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_events_neither_end_a_stream_nor_blame_the_server(name: str):
    data, text = ODD[name]
    async with (
        RawEngine(send_pieces(stream_of(data, delta({}, "stop")))) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        answer = await gateway.send_request(post("/api/chat", chat(stream=True)))
        assert all(load.consecutive_failures == 0 for load in gateway.gateway.catalog.loads.values())
    assert "".join(line["message"]["content"] for line in answer.lines) == text
    assert answer.lines[-1]["done"] is True


@pytest.mark.parametrize("reason", ["network_error", "timeout", "insufficient_system_resource"])
async def test_a_finish_reason_that_means_failure_is_an_error(reason: str):
    async with (
        RawEngine(send_pieces(stream_of(delta({"content": "x"}), delta({}, reason)))) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/messages", chat(stream=True, max_tokens=9)))
    assert b"event: error" in answer.body
    assert b"end_turn" not in answer.body


BROKEN_TEXTS = {"a stray byte": (b"h\xffi", "h\ufffdi"), "half a surrogate pair": (rb"h\ud83d x", "h\ufffd x")}
BODIES = {
    "/v1/chat/completions": b'{"model":"m","messages":[{"role":"user","content":"%b"}]}',
    "/v1/completions": b'{"model":"m","prompt":"%b"}',
    "/v1/embeddings": b'{"model":"m","input":"%b"}',
    "/v1/responses": b'{"model":"m","input":"%b"}',
    "/v1/messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"%b"}]}',
    "/api/chat": b'{"model":"m","stream":false,"messages":[{"role":"user","content":"%b"}]}',
    "/api/generate": b'{"model":"m","stream":false,"prompt":"%b"}',
    "/api/embed": b'{"model":"m","input":"%b"}',
    "/api/embeddings": b'{"model":"m","prompt":"%b"}',
    "/chat": b'{"model":"m","message":"%b"}',
    "/api/v1/chat": b'{"model":"m","message":"%b"}',
}


@pytest.mark.parametrize("kind", ["vllm", "ollama"])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", BROKEN_TEXTS)
async def test_text_that_is_not_unicode_reaches_the_server_mended(name: str, path: str, kind: str):
    broken, mended = BROKEN_TEXTS[name]
    async with (
        RawEngine(send_pieces(response(b'{"error":"enough"}', status="400 Bad Request"))) as engine,
        run_gateway(server_settings("a", engine.url, kind)) as gateway,
    ):
        answer = await gateway.send_request(post(path, BODIES[path] % broken))
    assert answer.status == 400
    assert mended in str(engine.requests[0].json), engine.requests[0].body


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/completions", "/api/generate"])
async def test_a_server_that_ignores_the_case_of_keys_reads_the_model_that_was_routed(path: str, kind: str):
    fields = b'"messages":[{"role":"user","content":"hi"}],"prompt":"hi","stream":false'
    async with (
        RawEngine(send_pieces(response(b'{"error":"enough"}', status="400 Bad Request"))) as engine,
        run_gateway(server_settings("a", engine.url, kind)) as gateway,
    ):
        for keys in (b'"model":"m","modeL":"m:latest"', b'"Model":"m:latest","model":"m"'):
            await gateway.send_request(post(path, b"{%b,%b}" % (keys, fields)))
    for request in engine.requests:
        assert [key for key in request.json if key.lower() == "model"] == ["model"]
