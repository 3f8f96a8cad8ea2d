"""Requests of coding agents and chat front ends, as they were recorded, on servers that are strict about them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.recorded import requests as recorded
from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import chat, post
from tests.support.raw_engine import RawEngine, Turn, chunk, chunked_head, completion, response

RECORDED = Path(recorded.__path__[0])
CODEX = json.loads((RECORDED / "codex-0.171.0.json").read_text(encoding="utf-8"))
CLAUDE_CODE = json.loads((RECORDED / "claude-code-2.1.197.json").read_text(encoding="utf-8"))
AGENTS = {"/v1/responses": CODEX, "/v1/messages": CLAUDE_CODE}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
REFUSED_ROLES = b'{"error":{"message":"System message must be at the beginning.","type":"BadRequestError","code":400}}'


def get_system_error(messages: list[dict[str, Any]]) -> bytes | None:
    """Return the error of a template that knows one system message, at the beginning, and no developer."""
    roles = [message["role"] for message in messages]
    return REFUSED_ROLES if "developer" in roles or "system" in roles[1:] else None


async def answer_as_vllm(turn: Turn) -> None:
    """Answer with a call of the last tool, as a server with a strict template does."""
    body = turn.request.json
    if turn.request.path != "/v1/chat/completions":
        await turn.send(response(b'{"detail":"Not Found"}', status="404 Not Found"))
        return
    if (error := get_system_error(body["messages"])) is not None:
        await turn.send(response(error, status="400 Bad Request"))
        return
    if not body.get("tools"):
        await turn.send(response(completion("good")))
        return
    function = {"name": body["tools"][-1]["function"]["name"], "arguments": "{}"}
    delta = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}
    events = [{"delta": delta}, {"delta": {}, "finish_reason": "tool_calls"}]
    lines = [b"data: %b\n\n" % json.dumps({"choices": [{"index": 0} | event]}).encode() for event in events]
    await turn.send(
        chunked_head("text/event-stream") + b"".join(map(chunk, [*lines, b"data: [DONE]\n\n"])) + b"0\r\n\r\n"
    )


async def answer_as_ollama(turn: Turn) -> None:
    """Answer as an Ollama server whose model cannot think; a text of the requested format is a call of the tool."""
    body = turn.request.json
    if "think" in body and body["think"] is not False:
        await turn.send(response(b'{"error":"\\"m\\" does not support thinking"}', status="400 Bad Request"))
        return
    message: dict[str, Any] = {"role": "assistant", "content": "good"}
    calls = [{"function": {"name": tool["function"]["name"], "arguments": {}}} for tool in body.get("tools", ())]
    if "format" in body:
        schema = body["format"]
        name = schema["properties"]["name"]["enum"][0]
        message["content"] = json.dumps({"name": name, "arguments": {"a": 1}})
    elif calls:
        message |= {"content": "", "tool_calls": calls[-2:]}
    last = {"model": "m", "message": message, "done": True, "done_reason": "stop"}
    if body.get("stream"):
        await turn.send(chunked_head("application/x-ndjson") + chunk(json.dumps(last).encode() + b"\n") + b"0\r\n\r\n")
    else:
        await turn.send(response(json.dumps(last).encode()))


SERVERS = {"vllm": answer_as_vllm, "llamacpp": answer_as_vllm, "openai": answer_as_vllm, "ollama": answer_as_ollama}


@pytest.mark.parametrize("path", AGENTS)
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_coding_agent_works_on_every_kind_of_server(kind: str, path: str):
    async with (
        RawEngine(SERVERS[kind]) as engine,
        run_gateway(server_settings("one", engine.url, kind)) as gateway,
    ):
        answer = await gateway.send_request(post(path, AGENTS[path]))
        assert answer.status == 200, answer
        assert answer.headers["x-penstock-ignored"]
        (asked,) = engine.requests
        roles = [message["role"] for message in asked.json["messages"]]
        assert roles[0] == "system"
        assert "developer" not in roles
        assert any(message.get("tool_call_id") for message in asked.json["messages"])


@pytest.mark.parametrize("kind", SERVERS)
async def test_calls_of_a_namespace_come_back_to_codex_as_its_own(kind: str):
    request = CODEX | {"tools": [tool for tool in CODEX["tools"] if tool["type"] == "namespace"]}
    async with (
        RawEngine(SERVERS[kind]) as engine,
        run_gateway(server_settings("one", engine.url, kind)) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/responses", request))
        (response_object,) = [
            event["response"] for event in map(json.loads, answer.data) if event["type"] == "response.completed"
        ]
        call = response_object["output"][-1]
        assert (call["type"], call["namespace"]) == ("function_call", "multi_agent_v1")
        assert call["name"] in [tool["name"] for tool in request["tools"][0]["tools"]]


@pytest.mark.parametrize(
    ("kind", "path", "fields", "ignored"),
    [
        ("ollama", "/v1/chat/completions", {"reasoning_effort": "high"}, "reasoning_effort"),
        ("ollama", "/v1/chat/completions", {"chat_id": "x", "verbosity": "low", "n": 1}, "chat_id, verbosity"),
        ("ollama", "/v1/messages", {"max_tokens": 5, "thinking": {"type": "adaptive"}}, "thinking"),
        ("ollama", "/v1/messages", {"max_tokens": 5, "brand_new": {"a": 1}}, "brand_new"),
        ("vllm", "/api/chat", {"stream": False, "options": {"num_ctx": 9, "use_mlock": True}}, "num_ctx, use_mlock"),
        ("ollama", "/v1/chat/completions", {"options": {"num_ctx": 9}}, None),
        ("vllm", "/v1/chat/completions", {"brand_new": 1}, None),
    ],
)
async def test_what_is_left_out_is_named_in_a_header(kind: str, path: str, fields: dict[str, Any], ignored: str | None):
    async with (
        RawEngine(SERVERS[kind]) as engine,
        run_gateway(server_settings("one", engine.url, kind)) as gateway,
    ):
        answer = await gateway.send_request(post(path, chat(**fields)))
        assert answer.status == 200, answer
        assert answer.headers.get("x-penstock-ignored") == ignored


async def test_a_passed_through_chat_is_translated_when_the_template_refuses_its_roles():
    messages = [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, *chat()["messages"]]
    async with (
        RawEngine(answer_as_vllm) as engine,
        run_gateway(server_settings("one", engine.url)) as gateway,
    ):
        for _ in range(5):  # the first, refused request is not the server's failure
            answer = await gateway.send_request(post("/v1/chat/completions", chat(messages=messages)))
            assert answer.status == 200, answer
        assert len(engine.requests) == 10
        assert engine.requests[1].json["messages"][0] == {"role": "system", "content": "a\n\nb"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
async def test_ollama_calls_the_tool_that_must_be_called(choice: Any):
    async with (
        RawEngine(answer_as_ollama) as engine,
        run_gateway(server_settings("one", engine.url, "ollama")) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/chat/completions", chat(tools=[TOOL], tool_choice=choice)))
        (given,) = answer.json["choices"]
        assert given["finish_reason"] == "tool_calls"
        assert given["message"]["content"] is None
        (call,) = given["message"]["tool_calls"]
        assert call["function"] == {"name": "add", "arguments": '{"a":1}'}


@pytest.mark.parametrize(("fields", "calls"), [({}, 2), ({"parallel_tool_calls": False}, 1)])
async def test_one_tool_call_is_kept_where_a_client_wants_no_parallel_ones(fields: dict[str, Any], calls: int):
    async with (
        RawEngine(answer_as_ollama) as engine,
        run_gateway(server_settings("one", engine.url, "ollama")) as gateway,
    ):
        body = chat(tools=[TOOL, TOOL], **fields)
        answer = await gateway.send_request(post("/v1/chat/completions", body))
        assert len(answer.json["choices"][0]["message"]["tool_calls"]) == calls


@pytest.mark.parametrize("fields", [{"n": 2}, {"tools": [TOOL], "logprobs": True, "n": 3}, {"grammar": "x"}])
async def test_what_would_change_the_answer_is_refused(fields: dict[str, Any]):
    async with (
        RawEngine(answer_as_ollama) as engine,
        run_gateway(server_settings("one", engine.url, "ollama")) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/chat/completions", chat(**fields)))
        assert (answer.status, answer.json["error"]["code"]) == (400, "unsupported")
        assert answer.json["error"]["param"] in fields
        assert not engine.requests
