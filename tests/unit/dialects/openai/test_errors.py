"""Errors in OpenAI's format, and the token counts and the end of passed-through responses."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai import DIALECT
from penstock.dialects.openai.usage import find_usage, is_stream_complete
from penstock.domain import errors
from penstock.domain.errors import PenstockError, UpstreamStatus
from penstock.domain.response import Usage


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.InvalidRequest("x"), "invalid_request_error", "invalid_request"),
        (errors.Unsupported("x"), "invalid_request_error", "unsupported"),
        (errors.ContextLengthExceeded("x"), "invalid_request_error", "context_length_exceeded"),
        (errors.Unauthorized("x"), "authentication_error", "unauthorized"),
        (errors.Forbidden("x"), "permission_error", "forbidden"),
        (errors.NotFound("x"), "invalid_request_error", "not_found"),
        (errors.ModelNotFound("x"), "invalid_request_error", "model_not_found"),
        (errors.MethodNotAllowed("x", allow=("POST",)), "invalid_request_error", "method_not_allowed"),
        (errors.BodyTooLarge("x"), "invalid_request_error", "body_too_large"),
        (errors.RateLimited("x"), "requests", "rate_limited"),
        (errors.NoServer("x"), "server_error", "no_server"),
        (errors.LlmDisabled("x"), "server_error", "llm_disabled"),
        (errors.ShuttingDown("x"), "server_error", "shutting_down"),
        (errors.UpstreamError("x"), "server_error", "upstream_error"),
        (errors.UpstreamTimeout("x"), "server_error", "upstream_timeout"),
        (UpstreamStatus("x", status=400), "invalid_request_error", "invalid_request"),
        (UpstreamStatus("x", status=422, kind="BadRequestError"), "BadRequestError", "invalid_request"),
        (UpstreamStatus("x", status=429), "requests", "upstream_error"),
        (UpstreamStatus("x", status=500, kind="InternalServerError"), "server_error", "upstream_error"),
        (PenstockError("x"), "server_error", "internal_error"),
    ],
)
def test_errors_are_rendered_in_openais_format(error: PenstockError, kind: str, code: str) -> None:
    rendered = msgspec.json.decode(DIALECT.render_error(error, "r1"))
    assert rendered == {"error": {"message": "x", "type": kind, "param": None, "code": code}}


def test_an_error_names_its_field() -> None:
    assert (
        msgspec.json.decode(DIALECT.render_error(errors.InvalidRequest("x", param="n"), "r"))["error"]["param"] == "n"
    )


def test_other_scripts_are_not_escaped() -> None:
    assert "нет".encode() in DIALECT.render_error(errors.InvalidRequest("нет"), "r")


@pytest.mark.parametrize("endpoint", DIALECT.endpoints, ids=lambda endpoint: endpoint.wire)
def test_a_passed_through_stream_that_broke_ends_with_an_event_on_a_fresh_line(endpoint) -> None:
    data = b'data: {"cho' + endpoint.render_interruption(errors.UpstreamCut("Gone."))
    last = data.split(b"\n\n")[-2]
    assert msgspec.json.decode(last.removeprefix(b"data: "))["error"]["message"] == "Gone."
    assert data.endswith(b"\n\n")


def test_no_two_endpoints_share_a_wire_or_a_path() -> None:
    wires = [endpoint.wire for endpoint in DIALECT.endpoints]
    paths = [(endpoint.method, path) for endpoint in DIALECT.endpoints for path in endpoint.paths]
    assert len(set(wires)) == len(wires)
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b"", None),
        (b"data: [DONE]\n\n", None),
        (b'{"usage":null}', None),
        (b'{"usage": null }', None),
        (b'{"usage":{}}', None),
        (b'{"usage":"none"}', None),
        (b'{"usage":[]}', None),
        (b'{"usage":{"prompt_tokens":1', None),
        (b'{"usage":{"prompt_tokens":"x"}}', None),
        (b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2)),
        (b'{"usage" : {"prompt_tokens" : 1, "completion_tokens" : 2} }', Usage(1, 2)),
        (b'{"usage":\n{\n"prompt_tokens":1}}', Usage(1)),
        (b'{"usage":{"prompt_tokens":7,"total_tokens":7}}', Usage(7)),
        (
            (
                b'{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":8},'
                b'"completion_tokens_details":{"reasoning_tokens":1}},"x":{}}'
            ),
            Usage(9, 2, 8, 1),
        ),
        (b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":null,"completion_tokens_details":null}}', Usage(9)),
        (b'{"usage":{"prompt_tokens":1}}\n\ndata: {"usage":{"prompt_tokens":2}}', Usage(2)),
        (b'{"usage":{"prompt_tokens":1}}\n\ndata: {"usage":null}\n\n', Usage(1)),
        (b'{"content":"\\"usage\\":{\\"prompt_tokens\\":9}"}', None),
        (
            b'{"timings":{"cache_n":13,"prompt_n":1,"prompt_ms":5.0,"predicted_n":5,"predicted_ms":2.5}}',
            Usage(14, 5, 13, prompt_seconds=0.005, completion_seconds=0.0025),
        ),
        (
            b'{"usage":{"prompt_tokens":1,"completion_tokens":2},"timings":{"prompt_ms":1000,"predicted_ms":2000}}',
            Usage(1, 2, prompt_seconds=1.0, completion_seconds=2.0),
        ),
    ],
)
def test_usage_is_found_at_the_end_of_a_response(tail: bytes, usage: Usage | None) -> None:
    assert find_usage(tail) == usage


@given(st.binary(max_size=300))
def test_any_tail_is_accepted(tail: bytes) -> None:
    assert find_usage(tail + b'"usage":{"prompt_tokens":3,"completion_tokens":4}') == Usage(3, 4)
    found = find_usage(tail.replace(b'"usage"', b"").replace(b'"timings"', b""))
    assert found is None


@pytest.mark.parametrize(
    ("tail", "ended"),
    [
        (b"", False),
        (b"data: [DONE]\n\n", True),
        (b"data: [DONE]", True),
        (b"data:[DONE]\r\n\r\n", True),
        (b'data: {"choices":[{"finish_reason":null,"delta":{"content":"[DONE]"}}]}\n\n', False),
        (b'data: {"choices":[{"finish_reason":"stop","delta":{}}]}\n\n', True),
        (b'data: {"choices":[{"finish_reason": "length"}]}\n\n', True),
        (b'data: {"content":"\\"finish_reason\\":\\"stop\\""}\n\n', False),
        (b'data: {"cho', False),
    ],
)
def test_the_end_of_a_stream_is_recognized(tail: bytes, ended: bool) -> None:
    assert is_stream_complete(tail) is ended
