"""`pop_resume_flag` in every dialect: `resume` is removed from the body, so engines never get it."""

import msgspec
import pytest

from penstock import dialects

BODIES = {
    "openai.chat": {"messages": [{"role": "user", "content": "hi"}]},
    "openai.completions": {"prompt": "hi"},
    "openai.responses": {"input": "hi"},
    "anthropic.messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "ollama.chat": {"messages": [{"role": "user", "content": "hi"}]},
    "ollama.generate": {"prompt": "hi"},
}
ENDPOINTS = {endpoint.wire: endpoint for dialect in dialects.load() for endpoint in dialect.endpoints}


@pytest.mark.parametrize("wire", BODIES)
@pytest.mark.parametrize(("value", "flag"), [(True, "resume"), (False, "break")])
def test_the_value_becomes_a_flag_and_the_rest_of_the_body_stays(wire: str, value: bool, flag: str):
    body = {"model": "m", "stream": True, "unknown": 1.50} | BODIES[wire]
    call = ENDPOINTS[wire].parse_request(msgspec.json.encode(body | {"resume": value}), b"application/json")
    assert msgspec.json.decode(call.body) == body
    assert call.flags == {flag}
    assert call.stream


@pytest.mark.parametrize("wire", BODIES)
def test_a_body_without_the_field_stays_unchanged(wire: str):
    body = msgspec.json.encode({"model": "m", "stream": True} | BODIES[wire])
    call = ENDPOINTS[wire].parse_request(body, b"application/json")
    assert call.body is body
    assert not call.flags
