"""`resume` is a word for the gateway: it is taken out of the body, whatever the dialect, and engines never see it."""

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
@pytest.mark.parametrize(("said", "flag"), [(True, "resume"), (False, "break")])
def test_what_it_says_becomes_a_flag_and_the_rest_of_the_body_stays(wire: str, said: bool, flag: str):
    body = {"model": "m", "stream": True, "unknown": 1.50} | BODIES[wire]
    call = ENDPOINTS[wire].parse_request(msgspec.json.encode(body | {"resume": said}), b"application/json")
    assert msgspec.json.decode(call.body) == body
    assert call.flags == {flag}
    assert call.stream


@pytest.mark.parametrize("wire", BODIES)
def test_who_does_not_say_it_has_the_body_passed_on_as_it_came(wire: str):
    body = msgspec.json.encode({"model": "m", "stream": True} | BODIES[wire])
    call = ENDPOINTS[wire].parse_request(body, b"application/json")
    assert call.body is body
    assert not call.flags
