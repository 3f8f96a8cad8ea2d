"""Namespaces, custom tools and the local shell: as functions for the model, and their calls as the client's own."""

import json
from typing import Any

from penstock.dialects.openai_responses import DIALECT
from penstock.dialects.openai_responses.tools import flatten_name
from penstock.domain.content import Chat, ToolCall, ToolChoice
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, Chunk, ModelResponse, ToolDelta

(RESPONSES,) = DIALECT.endpoints
OBJECT = {"type": "object", "properties": {}}
CLOSE = {"type": "function", "name": "close", "description": "Closes.", "parameters": OBJECT}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
TOOLS = [
    {"type": "function", "name": "exec", "parameters": OBJECT},
    {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [CLOSE]},
    {"type": "namespace", "name": "mcp__files__", "tools": [CLOSE]},
    {"type": "custom", "name": "patch", "description": "Patches.", "format": GRAMMAR},
    {"type": "local_shell"},
    {"type": "web_search", "external_web_access": True},
]  # fmt: skip


def parse(**members: Any) -> Call:
    body = json.dumps({"model": "m", "input": "hi", "tools": TOOLS} | members).encode()
    return RESPONSES.parse_request(body, b"application/json")


def decode(**members: Any) -> Chat:
    return RESPONSES.decode_content(parse(**members))


def render_calls(*calls: ToolCall) -> list[dict[str, Any]]:
    """Return the items of a response with these calls, without ids; the streamed form must have the same items."""
    by = Provenance(request_id="r", created=1.0)
    renderer = RESPONSES.create_renderer(parse(), by)
    body = json.loads(renderer.render_response(ModelResponse((Choice(tool_calls=calls),)), by))
    renderer = RESPONSES.create_renderer(parse(stream=True), by)
    events = b"".join(
        renderer.render_chunk(Chunk(tool_calls=(ToolDelta(index, call.id, call.name, piece),)))
        for index, call in enumerate(calls)
        for piece in (call.arguments[:3], call.arguments[3:])
    )
    events += renderer.render_end()
    done = [
        json.loads(line[6:])
        for line in events.split(b"\n")
        if line.startswith(b'data: {"type":"response.output_item.done"')
    ]
    assert [event["item"] for event in done] == body["output"]
    return [{name: value for name, value in item.items() if name not in ("id", "status")} for item in body["output"]]


def test_every_tool_of_the_client_is_a_function():
    chat = decode()
    assert [tool.name for tool in chat.tools] == ["exec", "agents__close", "mcp__files__close", "patch", "local_shell"]
    assert "start: x" in chat.tools[3].description
    assert chat.ignored == ("tools.web_search",)


def test_calls_are_the_clients_own():
    shell = ToolCall("5", "local_shell", '{"command":["ls"],"timeout_ms":5}')
    assert render_calls(
        ToolCall("1", "exec", '{"a":1}'),
        ToolCall("2", "agents__close", "{}  "),
        ToolCall("3", "mcp__files__close", "{}  "),
        ToolCall("4", "patch", '{"input":"*** Begin"}'),
        shell,
        ToolCall("6", "unknown", "{}  "),
    ) == [
        {"type": "function_call", "call_id": "1", "name": "exec", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "2", "namespace": "agents", "name": "close", "arguments": "{}  "},
        {"type": "function_call", "call_id": "3", "namespace": "mcp__files__", "name": "close", "arguments": "{}  "},
        {"type": "custom_tool_call", "call_id": "4", "name": "patch", "input": "*** Begin"},
        {
            "type": "local_shell_call",
            "call_id": "5",
            "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": 5},
        },
        {"type": "function_call", "call_id": "6", "name": "unknown", "arguments": "{}  "},
    ]


def test_calls_and_results_in_the_history_belong_to_the_functions():
    history = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": None},
        {"type": "function_call", "call_id": "1", "name": "close", "namespace": "agents", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": "x", "status": "completed"},
        {"type": "local_shell_call", "call_id": "3", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "function_call_output", "call_id": "1", "output": "closed"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "patched"},
        {"type": "local_shell_call_output", "id": "3", "output": "a.txt"},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "penstock"}},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
    ]
    _, turn, *results, search, done = decode(input=history).messages
    assert turn.thinking == "hm"
    assert turn.tool_calls == (
        ToolCall("1", "agents__close", "{}"),
        ToolCall("2", "patch", '{"input":"x"}'),
        ToolCall("3", "local_shell", '{"command":["ls"]}'),
    )
    assert [(result.role, result.tool_call_id, result.name, result.text) for result in results] == [
        ("tool", "1", "agents__close", "closed"),
        ("tool", "2", "patch", "patched"),
        ("tool", "3", "local_shell", "a.txt"),
    ]
    assert (search.role, search.text) == ("assistant", "[web_search: penstock]")
    assert done.text == "Done."


def test_a_choice_may_name_a_tool_in_a_namespace():
    choice = {"type": "function", "namespace": "agents", "name": "close"}
    assert decode(tool_choice=choice).tool_choice == ToolChoice("function", "agents__close")
    assert decode(tool_choice={"type": "custom", "name": "patch"}).tool_choice == ToolChoice("function", "patch")


def test_long_names_stay_short_and_different():
    names = {flatten_name("n" * 60, f"tool_{at}") for at in range(20)}
    assert len(names) == 20
    assert all(len(name) == 64 for name in names)
