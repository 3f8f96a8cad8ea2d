"""Error responses of OpenAI-compatible servers, in all formats."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    Unsupported,
    UpstreamError,
    UpstreamStatus,
)
from penstock.engines.openai_compatible.errors import extract_message, parse_error_response


def parse_error(status: int, body: object, retry_after: float | None = None) -> PenstockError:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return parse_error_response(status, data, retry_after, "vLLM")


@pytest.mark.parametrize(
    ("message", "requested", "limit"),
    [
        (
            (
                "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 "
                "input tokens, "
                "which exceeds this limit even without any output tokens. Please reduce the length of the input "
                "prompt. "
                "(parameter=input_tokens, value=257)"
            ),
            257,
            256,
        ),
        (
            (
                "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (2900 "
                "in the messages, "
                "100 in the completion). Please reduce the length of the messages or completion."
            ),
            3000,
            2048,
        ),
        (
            (
                "This model's maximum context length is 16384 tokens. However, you requested 8192 output tokens "
                "and your prompt "
                "contains at least 8193 input tokens, for a total of at least 16385 tokens."
            ),
            16385,
            16384,
        ),
        (
            (
                "You passed 2900 input tokens and requested 100 output tokens. However, the model's context "
                "length is only "
                "2048 tokens, resulting in a maximum input length of 1948 tokens."
            ),
            2900,
            2048,
        ),
        ("The decoder prompt (length 3000) is longer than the maximum model length of 2048. Make sure…", 3000, 2048),
        (
            (
                "max_tokens=100000 cannot be greater than max_model_len=256. Please request fewer output tokens. "
                "(parameter=max_tokens, value=100000)"
            ),
            100000,
            256,
        ),
        ("request (498 tokens) exceeds the available context size (256 tokens), try increasing it", 498, 256),
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            9000,
            8192,
        ),
    ],
)
def test_an_overflow_tells_both_numbers(message: str, requested: int, limit: int) -> None:
    error = parse_error(400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}})
    assert isinstance(error, ContextLengthExceeded)
    assert str(requested) in error.message
    assert str(limit) in error.message
    assert not error.retryable


def test_llamacpps_own_numbers_are_preferred() -> None:
    error = parse_error(
        400,
        {
            "error": {
                "code": 400,
                "message": "too long",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9,
                "n_ctx": 8,
            }
        },
    )
    assert isinstance(error, ContextLengthExceeded)
    assert "9" in error.message
    assert "8" in error.message


def test_an_overflow_counted_in_characters_keeps_the_servers_message() -> None:
    message = (
        "This model's maximum context length is 2048 tokens. However, your prompt contains 240050 characters (more "
        "than 36864 characters, which is the upper bound for 2048 input tokens). Please reduce the length of it."
    )
    error = parse_error(
        400, {"error": {"message": message, "type": "BadRequestError", "param": "input_text", "code": 400}}
    )
    assert isinstance(error, ContextLengthExceeded)
    assert error.message == message


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}},
        {"error": {"message": "the request exceeds the available context size. try increasing the context size"}},
    ],
)
def test_an_overflow_without_numbers_is_still_one(body: object) -> None:
    error = parse_error(400, body)
    assert isinstance(error, ContextLengthExceeded)
    assert error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {
                "error": {
                    "message": "The model `nope` does not exist.",
                    "type": "NotFoundError",
                    "param": "model",
                    "code": 404,
                }
            },
            "The model `nope` does not exist.",
        ),
        ({"error": "Cannot find an appropriate cached snapshot folder"}, "Cannot find"),
        ({"error": {"message": "model not found", "code": "model_not_found"}}, "model not found"),
        ({}, "does not have this model"),
    ],
)
def test_an_unknown_model_is_model_not_found(body: object, words: str) -> None:
    error = parse_error(404, body)
    assert isinstance(error, ModelNotFound)
    assert words in error.message
    assert error.param == "model"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (404, {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}),
        (404, b"Not Found"),
        (404, {"error": "Only 'text' content type is supported."}),
        (405, {"detail": "Method Not Allowed"}),
        (
            501,
            {
                "error": {
                    "code": 501,
                    "message": "This server does not support embeddings. Start it with `--embeddings`",
                }
            },
        ),
        (500, {"error": {"code": 500, "message": "image input is not supported - hint: …", "type": "server_error"}}),
        (500, {"error": {"code": 500, "message": "audio input is not supported - hint: …", "type": "server_error"}}),
        (400, {"error": {"message": "tiny is not a multimodal model", "type": "BadRequestError", "code": 400}}),
    ],
)
def test_an_unsupported_request_names_the_server(status: int, body: object) -> None:
    error = parse_error(status, body)
    assert isinstance(error, Unsupported)
    assert "vLLM does not support this" in error.message
    assert error.status == 400


@pytest.mark.parametrize(
    ("body", "message", "kind", "param"),
    [
        (
            {"error": {"message": "bad temperature", "type": "Bad Request", "param": "body.temperature", "code": 400}},
            "bad temperature",
            "Bad Request",
            "temperature",
        ),
        (
            {"error": {"code": 400, "message": "'messages' is required", "type": "invalid_request_error"}},
            "'messages' is required",
            "invalid_request_error",
            None,
        ),
        ({"error": "max_tokens must be at least 1"}, "max_tokens must be at least 1", None, None),
        ({"detail": "Server is pinned to 'a'; requested 'b'."}, "Server is pinned to 'a'; requested 'b'.", None, None),
        (
            {"detail": [{"type": "json_invalid", "loc": ["body", 9], "msg": "JSON decode error", "input": {}}]},
            "9: JSON decode error",
            None,
            None,
        ),
        (
            {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}, {"loc": [], "msg": "x"}, "y"]},
            "messages: Field required; x; y",
            None,
            None,
        ),
        (
            {"object": "error", "message": "old vLLM", "type": "BadRequestError", "code": 400},
            "old vLLM",
            "BadRequestError",
            None,
        ),
        ({"message": "plain"}, "plain", None, None),
        ({"error": {"message": {"message": "nested"}}}, "nested", None, None),
        (b"plain text", "plain text", None, None),
        (b'"a string"', "a string", None, None),
        ({"error": {"message": "two\n  lines"}}, "two lines", None, None),
    ],
)
def test_the_servers_message_reaches_the_caller(
    body: object, message: str, kind: str | None, param: str | None
) -> None:
    error = parse_error(400, body)
    assert isinstance(error, UpstreamStatus)
    assert (error.message, error.kind, error.param, error.status) == (message, kind, param, 400)
    assert not error.retryable


@pytest.mark.parametrize(
    "body", [b"", b"<html>502</html>", b"null", b"[]", b"3", b"{}", {"error": None}, {"error": 3}, {"error": {}}]
)
def test_an_error_without_a_message_still_gives_a_sentence(body: object) -> None:
    error = parse_error(400, body)
    assert isinstance(error, UpstreamStatus)
    assert "status 400" in error.message
    assert "vLLM" in error.message
    assert "<" not in error.message


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_temporary_failures_can_be_retried(status: int) -> None:
    error = parse_error(status, {"error": {"message": "busy"}}, 7.5)
    assert isinstance(error, UpstreamStatus)
    assert error.retryable
    assert (error.status, error.retry_after) == (status, 7.5)
    assert "busy" in error.message


def test_a_server_error_names_the_server() -> None:
    assert parse_error(500, b"Internal Server Error").message == "vLLM failed: Internal Server Error"


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_not_the_callers_error(status: int) -> None:
    error = parse_error(status, {"error": {"message": "Unauthorized"}})
    assert isinstance(error, UpstreamError)
    assert error.status == 502
    assert "api_key" in error.message


def test_a_long_message_is_shortened() -> None:
    assert len(parse_error(400, b"x " * 100_000).message) <= 2000


@given(st.integers(400, 599), st.binary(max_size=200))
def test_any_error_body_is_parsed(status: int, body: bytes) -> None:
    assert parse_error_response(status, body, None, "vLLM").message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "loc", "msg", "type", "code"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_error_json_is_parsed(body: object) -> None:
    data = msgspec.json.encode(body)
    assert isinstance(parse_error_response(422, data, None, "vLLM"), PenstockError)


def test_the_message_can_be_extracted() -> None:
    assert (
        extract_message(b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}')
        == "Loading model"
    )
    assert extract_message(b"") == ""
