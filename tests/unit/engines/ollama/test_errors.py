"""Error responses of Ollama."""

import json

import pytest

from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    Unsupported,
    UpstreamCut,
    UpstreamError,
    UpstreamStatus,
)
from penstock.engines.ollama.engine import ENGINE
from penstock.engines.ollama.errors import parse_stream_error


def parse_error(status: int, text: object, retry_after: float | None = None) -> PenstockError:
    return ENGINE.parse_error_response(status, json.dumps({"error": text}).encode(), retry_after)


@pytest.mark.parametrize("text", ["model 'x' not found", 'model "x" not found, try pulling it first'])
def test_an_unknown_model(text: str):
    error = parse_error(404, text)
    assert isinstance(error, ModelNotFound)
    assert error.message == text


def test_a_full_queue_is_retryable():
    error = parse_error(503, "server busy, please try again.  maximum pending requests exceeded", 3.0)
    assert isinstance(error, UpstreamStatus)
    assert (error.status, error.retryable, error.retry_after) == (503, True, 3.0)


@pytest.mark.parametrize(
    "text",
    [
        '"m" does not support thinking',
        '"m" does not support chat',
        "registry.ollama.ai/library/m:latest does not support tools",
        "this model only supports one image while more than one image requested",
    ],
)
def test_a_missing_capability_is_the_callers_error(text: str):
    error = parse_error(400, text)
    assert isinstance(error, Unsupported)
    assert error.message == f"Ollama: {text}"


def test_an_overflow_in_llama_servers_json_has_both_numbers():
    inner = (
        '{"error":{"code":400,"message":"request (26528 tokens) exceeds the available context size (16384 tokens), '
        'try increasing it","type":"exceed_context_size_error"}}'
    )
    error = parse_error(400, inner)
    assert isinstance(error, ContextLengthExceeded)
    assert "26528" in error.message
    assert "16384" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "the input length exceeds the context length",
        "the prompt is longer than the context length currently available to the model; shorten the prompt",
    ],
)
def test_an_overflow_without_numbers_is_one_too(text: str):
    assert isinstance(parse_error(400, text), ContextLengthExceeded)


def test_other_nested_json_is_unwrapped_to_its_message():
    error = parse_error(500, '{"error":{"code":500,"message":"Compute error.","type":"server_error"}}')
    assert isinstance(error, UpstreamStatus)
    assert (error.message, error.status, error.kind, error.retryable) == ("Compute error.", 500, "server_error", True)


def test_rejected_credentials_are_not_the_callers_error():
    error = parse_error(401, "unauthorized")
    assert isinstance(error, UpstreamError)
    assert (error.status, error.retryable) == (502, True)
    assert "api_key" in error.message


def test_a_missing_path_is_no_missing_model():
    error = ENGINE.parse_error_response(404, b"404 page not found", None)
    assert isinstance(error, UpstreamError)
    assert not isinstance(error, ModelNotFound)


def test_an_abandoned_request_was_cut():
    assert isinstance(parse_error(499, "request canceled"), UpstreamCut)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b"null", b"[]", b'{"error":5}', b'{"error":{}}', b"\xff\xfe"]
)
def test_any_error_body_gives_a_message(body: bytes):
    error = ENGINE.parse_error_response(502, body, None)
    assert (error.status, error.retryable) == (502, True)
    assert error.message
    assert "<" not in error.message


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b'"server busy, please try again.  maximum pending requests exceeded"', UpstreamStatus, 503),
        (b'"an error was encountered while running the model: x"', UpstreamStatus, 500),
        (b'{"code":400,"message":"x exceeds the available context size"}', ContextLengthExceeded, 400),
        (b'"pull model manifest: file does not exist"', ModelNotFound, 404),
        (b"true", UpstreamStatus, 500),
    ],
)
def test_errors_in_a_stream_are_classified_by_their_message(data: bytes, kind: type[PenstockError], status: int):
    error = parse_stream_error(data, "Ollama")
    assert isinstance(error, kind)
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, '"m" does not support thinking'),
        (400, '{"error":{"code":400,"message":"Multimodal data provided, but …","type":"invalid_request_error"}}'),
        (400, '{"error":{"message":"request (26 tokens) exceeds the available context size (16 tokens)","type":""}}'),
        (404, "model 'm' not found"),
        (500, 'option "num_ctx" must be of type integer'),
    ],
)
def test_the_servers_own_text_is_kept_for_its_clients(status: int, text: str):
    assert parse_error(status, text).engine_message == text


@pytest.mark.parametrize(("status", "text"), [(401, "unauthorized"), (499, "request canceled")])
def test_the_text_of_an_error_that_is_not_the_callers_is_not(status: int, text: str):
    assert not parse_error(status, text).engine_message


def test_an_overflow_has_the_words_that_clients_look_for():
    error = parse_error(400, "request (26 tokens) exceeds the available context size (16 tokens), try increasing it")
    assert "exceeds the available context size" in error.message
    assert "exceed_context_size_error" in error.message
