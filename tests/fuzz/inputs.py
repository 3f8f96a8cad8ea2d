"""Hostile requests and responses, made from a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.support.raw_engine import END, chunk, chunked_head, completion, event, response, stream_events

Path = tuple[str | int, ...]

_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
_MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {
        "role": "assistant",
        "content": "ok",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "1"},
    {"role": "user", "content": "and?"},
]
_OLLAMA_MESSAGES: list[Any] = [
    {"role": "user", "content": "hi", "images": ["aGk="]},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "tool", "content": "1", "tool_name": "f"},
]
_SAMPLING = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "stop": ["x"], "seed": 1, "stream": False, "n": 1}
_OPTIONS = {"num_ctx": 2048, "temperature": 0.1, "stop": ["a"], "num_predict": 3}

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "m", "messages": _MESSAGES, "tools": [_TOOL], "tool_choice": "auto", "logprobs": True, "user": "u",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "stream_options": {"include_usage": True}, "frequency_penalty": 0.1, "reasoning_effort": "low", **_SAMPLING,
    },
    "/v1/completions": {"model": "m", "prompt": ["a", "b"], "suffix": "s", "echo": False, "logprobs": 1, **_SAMPLING},
    "/v1/embeddings": {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 4},
    "/v1/responses": {
        "model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "instructions": "i", "max_output_tokens": 5, "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"}, "stream": False,
    },
    "/v1/messages": {
        "model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "disabled"}, "metadata": {"user_id": "u"}, "top_k": 3,
    },
    "/v1/messages/count_tokens": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "/api/chat": {
        "model": "m", "messages": _OLLAMA_MESSAGES, "tools": [_TOOL], "format": "json", "think": False,
        "options": _OPTIONS, "keep_alive": "5m", "stream": False, "truncate": True,
    },
    "/api/generate": {
        "model": "m", "prompt": "p", "suffix": "", "system": "s", "template": "t", "context": [1, 2], "raw": False,
        "images": ["aGk="], "format": {"type": "object"}, "options": _OPTIONS, "keep_alive": 0, "stream": False,
    },
    "/api/embed": {"model": "m", "input": ["a"], "truncate": True, "dimensions": 4, "options": _OPTIONS},
    "/api/embeddings": {"model": "m", "prompt": "a", "keep_alive": 5},
    "/api/show": {"model": "m", "verbose": False},
    "/api/route": {"message": "hi", "history": [{"role": "user", "content": "a"}], "context": {}, "model": "auto"},
    "/api/v1/chat": {"message": "hi", "model": "m", "history": [{"role": "user", "content": "a"}], "stream": False},
}  # fmt: skip
"""A valid request for each route; every field of it is attacked."""

VALUES = (
    "null", "true", "false", "0", "-1", "1.5", "1e999", "-1e999", "1e400", "9" * 400, "-" + "9" * 5000, "NaN", "[]",
    "{}", '""', '"x"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u2028\\u001b[31m"', '"' + "x" * 100_000 + '"',
    "[" * 900 + "]" * 900, "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '{"":null}', "[null]", '[{"a":[1e999]}]',
    '"\xff\xfe"', '"\xc3"', "\xff", "[1,2", '{"a":1,"a":2}', "{'a':1}", "12345678901234567890", "-0", "1E5",
    '[["x"]]', '{"type":"text"}', '{"type":[]}', '"\\x"', "tru", "\x00", "1e308", '["\\ud83d"]',
)  # fmt: skip
"""Replacements for a field, as JSON or nearly; characters below U+0100 stand for bytes."""


def list_paths(value: Any, prefix: Path = ()) -> Iterator[Path]:
    """Yield the path of every field and item within a value, and of the value itself."""
    yield prefix
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from list_paths(item, (*prefix, key))


def render_with(body: Any, path: Path, replacement: str) -> bytes:
    """Render a body as JSON with one value replaced by raw text."""
    mark = "\ue000mark\ue000"
    rendered = json.dumps(_replace(body, path, mark), ensure_ascii=False)
    return rendered.replace(json.dumps(mark, ensure_ascii=False), replacement).encode("latin-1", "replace")


def _replace(value: Any, path: Path, replacement: Any) -> Any:
    if not path:
        return replacement
    copy = value.copy()
    copy[path[0]] = _replace(value[path[0]], path[1:], replacement)
    return copy


def create_confused_body(rng: random.Random, route: str) -> bytes:
    """Create a body of which one or two fields have another type, or are not JSON; or stray bytes somewhere."""
    body: Any = BODIES[route]
    if rng.random() < 0.3:
        body = body | {"stream": True}
    data = render_with(body, rng.choice(list(list_paths(body))), rng.choice(VALUES))
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(rng.randrange(4)) + data[at + rng.randrange(3) :]
    return data


def create_request(rng: random.Random) -> bytes:
    """Create a request with a confused body, or with mutated HTTP around a valid one."""
    route = rng.choice(list(BODIES))
    if rng.random() < 0.7:
        return frame_request(route, create_confused_body(rng, route))
    request = bytearray(frame_request(route, json.dumps(BODIES[route]).encode()))
    head = request.index(b"\r\n\r\n") + 4
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(head)
        request[at : at + rng.randrange(4)] = rng.choice(
            [
                rng.randbytes(1), b"\r\n", b"\n", b"\x00", b": ", b"\r\nTransfer-Encoding: chunked\r\n", b"%",
                b"\r\nContent-Length: " + rng.choice([b"5", b"-1", b"9" * 5000, b"0x5"]) + b"\r\n", b" " * 100,
                b"\r\nExpect: 100-continue\r\n", b"\r\nUpgrade: websocket\r\n", b"\r\nX: " + b"y" * 70_000 + b"\r\n",
                b"?" + rng.randbytes(5), b"\r\nx-penstock-max-wait: 1e999\r\n", b"\r\nx-session-id: \xff\r\n",
            ]
        )  # fmt: skip
    return bytes(request)


def frame_request(route: str, body: bytes) -> bytes:
    """Return the bytes of a POST whose connection is closed after the response."""
    head = f"POST {route} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def create_hostile_response(rng: random.Random, streamed: bool) -> bytes:
    """Create a response of a model server: good, with a confused field, mutated, or cut."""
    value = rng.choice(VALUES)
    if streamed and rng.random() < 0.8:
        events = stream_events("a", "b")
        fields = json.loads(event("x")[6:]) | {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        confused = render_with(fields, rng.choice(list(list_paths(fields))), value)
        events.insert(rng.randrange(len(events)), b"data: " + confused + b"\n\n")
        message = chunked_head() + b"".join(map(chunk, events)) + rng.choice([END, b"0\r\nX-T: 1\r\n\r\n", b""])
    else:
        fields = json.loads(completion("x"))
        body = render_with(fields, rng.choice(list(list_paths(fields))), value)
        status = rng.choice(["200 OK"] * 4 + ["400 No", "429 Busy", "500 No", "503 No", "999 Odd", "204 None"])
        retry = rng.choice(["1", "inf", "1e308", "-1", "x" * 5000])
        content_type = rng.choice(["application/json", "text/html", "", "text/event-stream"])
        message = response(body, status=status, content_type=content_type, headers=(f"Retry-After: {retry}",))
    if rng.random() < 0.3:
        at = rng.randrange(len(message))
        message = message[:at] + rng.randbytes(rng.randrange(3)) + message[at + rng.randrange(3) :]
    return message if rng.random() < 0.8 else message[: rng.randrange(len(message))]
